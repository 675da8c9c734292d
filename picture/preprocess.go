package picture

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Preprocessor turns a picture into the pixel values of a CLIP image tower, as CLIPImageProcessor of transformers 4.50
// does: resize so that the short side fits, crop the centre, rescale, subtract the mean, divide by the deviation.
type Preprocessor struct {
	ShortSide       int // short side after resizing; 0 if Width and Height are to be hit exactly, or nothing is resized
	ExactWidth      int // size after resizing without regard to the aspect, 0 if ShortSide rules
	ExactHeight     int
	CropWidth       int // size after cropping, 0 without a crop
	CropHeight      int
	Filter          Filter
	Scale           float64 // factor of a level, 1/255; 1 without rescaling
	Mean, Deviation [3]float32
}

// clipMean and clipDeviation are the statistics of CLIP's training pictures, the library's defaults.
var (
	clipMean      = []float64{0.48145466, 0.4578275, 0.40821073}
	clipDeviation = []float64{0.26862954, 0.26130258, 0.27577711}
)

// preprocessorJSON mirrors preprocessor_config.json.
type preprocessorJSON struct {
	Size        sizeJSON  `json:"size"`
	Crop        sizeJSON  `json:"crop_size"`
	Filter      *Filter   `json:"resample"`
	Factor      *float64  `json:"rescale_factor"`
	Mean        []float64 `json:"image_mean"`
	Deviation   []float64 `json:"image_std"`
	DoResize    *bool     `json:"do_resize"`
	DoCrop      *bool     `json:"do_center_crop"`
	DoRescale   *bool     `json:"do_rescale"`
	DoNormalise *bool     `json:"do_normalize"`
}

// sizeJSON is a size, written as a number or as an object.
type sizeJSON struct {
	Number, Shortest, Width, Height int
}

// UnmarshalJSON accepts both spellings and null.
func (s *sizeJSON) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &s.Number) == nil {
		return nil
	}
	var object map[string]*int
	if err := json.Unmarshal(data, &object); err != nil {
		return fmt.Errorf("%s is no size: give a number, {shortest_edge} or {width, height}", data)
	}
	for key, value := range object {
		switch {
		case value == nil:
		case key == "shortest_edge":
			s.Shortest = *value
		case key == "width":
			s.Width = *value
		case key == "height":
			s.Height = *value
		default:
			return fmt.Errorf("a size by %s (%d) is not done: CLIP's pictures are sized by shortest_edge, or by width and height", key, *value)
		}
	}
	return nil
}

// LoadPreprocessor reads preprocessor_config.json in folder dir, or without one image_processor of processor_config.json,
// which transformers 5 writes.
func LoadPreprocessor(dir string) (Preprocessor, error) {
	path, whole := filepath.Join(dir, "preprocessor_config.json"), filepath.Join(dir, "processor_config.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, other := os.ReadFile(whole); other == nil {
			path = whole
			data, err = imageProcessor(text)
		}
	}
	if err != nil {
		return Preprocessor{}, fmt.Errorf("load picture preprocessor: %w", err)
	}
	p, err := ParsePreprocessor(data)
	if err != nil {
		return Preprocessor{}, fmt.Errorf("load picture preprocessor %s: %w", path, err)
	}
	return p, nil
}

// imageProcessor is the part of a processor_config.json that is about pictures.
func imageProcessor(data []byte) ([]byte, error) {
	var file struct {
		Images json.RawMessage `json:"image_processor"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("processor_config.json: %w", err)
	}
	if len(file.Images) == 0 {
		return nil, errors.New("processor_config.json has no image_processor, and there is no preprocessor_config.json")
	}
	return file.Images, nil
}

// ParsePreprocessor reads the text of a preprocessor_config.json. What it leaves out has the library's defaults.
func ParsePreprocessor(data []byte) (Preprocessor, error) {
	file := preprocessorJSON{Mean: slices.Clone(clipMean), Deviation: slices.Clone(clipDeviation)} // which decoding writes into
	if err := json.Unmarshal(data, &file); err != nil {
		return Preprocessor{}, err
	}
	p := Preprocessor{Filter: Bicubic, Scale: 1, Deviation: [3]float32{1, 1, 1}}
	if on(file.DoResize) {
		p.setSize(file.Size)
	}
	if on(file.DoCrop) {
		if file.Crop.Shortest != 0 {
			return p, fmt.Errorf("crop_size by shortest_edge (%d) is not done: give width and height", file.Crop.Shortest)
		}
		p.setCrop(file.Crop)
	}
	if file.Filter != nil {
		p.Filter = *file.Filter
	}
	if on(file.DoRescale) {
		p.Scale = 0.00392156862745098
		if file.Factor != nil {
			p.Scale = *file.Factor
		}
	}
	if on(file.DoNormalise) {
		if len(file.Mean) != 3 || len(file.Deviation) != 3 {
			return p, errors.New("image_mean and image_std need three numbers each, red, green and blue")
		}
		for c := range 3 {
			p.Mean[c], p.Deviation[c] = float32(file.Mean[c]), float32(file.Deviation[c])
		}
	}
	return p, p.check()
}

func on(option *bool) bool { return option == nil || *option }

func (p *Preprocessor) setSize(s sizeJSON) {
	switch {
	case s.Width != 0 || s.Height != 0:
		p.ExactWidth, p.ExactHeight = s.Width, s.Height
	case s.Shortest != 0:
		p.ShortSide = s.Shortest
	case s.Number != 0:
		p.ShortSide = s.Number
	default:
		p.ShortSide = 224
	}
}

func (p *Preprocessor) setCrop(s sizeJSON) {
	switch {
	case s.Width != 0 || s.Height != 0:
		p.CropWidth, p.CropHeight = s.Width, s.Height
	case s.Number != 0:
		p.CropWidth, p.CropHeight = s.Number, s.Number
	default:
		p.CropWidth, p.CropHeight = 224, 224
	}
}

func (p *Preprocessor) check() error {
	for _, side := range []int{p.ShortSide, p.ExactWidth, p.ExactHeight, p.CropWidth, p.CropHeight} {
		if side < 0 || side > 1<<14 {
			return fmt.Errorf("a side of %d pixels is outside 1…%d", side, 1<<14)
		}
	}
	if (p.ExactWidth == 0) != (p.ExactHeight == 0) || (p.CropWidth == 0) != (p.CropHeight == 0) {
		return errors.New("a size needs both width and height")
	}
	if !p.Filter.known() {
		return fmt.Errorf("resample %d: not known; use 1 (lanczos), 2 (bilinear) or 3 (bicubic)", p.Filter)
	}
	for _, d := range p.Deviation {
		if d == 0 {
			return errors.New("image_std holds a 0, by which pixels cannot be divided")
		}
	}
	return nil
}

// Fit resizes and crops; the result is what the float pixels are made from.
func (p Preprocessor) Fit(m *Picture) (*Picture, error) {
	width, height := p.ExactWidth, p.ExactHeight
	switch {
	case p.ShortSide > 0:
		width, height = shortSideSize(m.Width, m.Height, p.ShortSide)
	case width == 0:
		width, height = m.Width, m.Height
	}
	out, err := m.Resize(width, height, p.Filter)
	if err != nil {
		return nil, fmt.Errorf("preprocess picture of %d×%d: %w", m.Width, m.Height, err)
	}
	if p.CropWidth > 0 {
		out = out.centreCrop(p.CropWidth, p.CropHeight)
	}
	return out, nil
}

// shortSideSize keeps the aspect: the long side is cut off to whole pixels.
func shortSideSize(width, height, short int) (int, int) {
	if width <= height {
		return short, int(float64(short*height) / float64(width))
	}
	return int(float64(short*width) / float64(height)), short
}

// centreCrop takes the middle, one pixel more towards the upper left where it is not exact; a smaller picture gets a
// black frame.
func (p *Picture) centreCrop(width, height int) *Picture {
	return p.window(floorHalf(p.Width-width), floorHalf(p.Height-height), width, height)
}

// floorHalf is v/2 rounded down, also for negative v.
func floorHalf(v int) int { return v >> 1 }

// Pixels gives the model's input for a picture that Fit made: planes [3, Height, Width].
func (p Preprocessor) Pixels(m *Picture) []float32 {
	var table [3][256]float32
	for c := range table {
		for v := range table[c] {
			table[c][v] = (float32(float64(v)*p.Scale) - p.Mean[c]) / p.Deviation[c]
		}
	}
	area := m.Width * m.Height
	out := make([]float32, 3*area)
	for i := range area {
		for c := range 3 {
			out[c*area+i] = table[c][m.Pix[3*i+c]]
		}
	}
	return out
}

// Process is Fit followed by Pixels.
func (p Preprocessor) Process(m *Picture) ([]float32, error) {
	fitted, err := p.Fit(m)
	if err != nil {
		return nil, err
	}
	return p.Pixels(fitted), nil
}
