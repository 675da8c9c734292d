package flux

import "fmt"

// Pack turns latents [B, c, h, w] into tokens [B, h/2·w/2, 4c]: one token per 2×2 square, row by row, channel
// 4·ch + 2·(row in square) + (column in square). h and w must be even.
func Pack(latents []float32, b, c, h, w int) []float32 {
	tokens := make([]float32, len(latents))
	eachPixel(len(latents), b, c, h, w, func(pixel, token int) { tokens[token] = latents[pixel] })
	return tokens
}

// Unpack is the inverse of Pack.
func Unpack(tokens []float32, b, c, h, w int) []float32 {
	latents := make([]float32, len(tokens))
	eachPixel(len(tokens), b, c, h, w, func(pixel, token int) { latents[pixel] = tokens[token] })
	return latents
}

func eachPixel(n, b, c, h, w int, do func(pixel, token int)) {
	if h%latentPatch != 0 || w%latentPatch != 0 || n != b*c*h*w {
		panic(fmt.Sprintf("flux: pack %d numbers as %d latents of %d channels, %d×%d; sides must be even", n, b, c, h, w))
	}
	pixel := 0
	for sample := range b {
		for channel := range c {
			for y := range h {
				for x := range w {
					token := (sample*(h/2)+y/2)*(w/2) + x/2
					do(pixel, (token*c+channel)*4+y%2*2+x%2)
					pixel++
				}
			}
		}
	}
}

// ImageIDs is the position ids [N, 3] of the tokens of an h×w latent: 0, row, column.
func ImageIDs(h, w int) [][3]float32 {
	ids := make([][3]float32, 0, h/2*(w/2))
	for y := range h / latentPatch {
		for x := range w / latentPatch {
			ids = append(ids, [3]float32{0, float32(y), float32(x)})
		}
	}
	return ids
}

// TextIDs is the position ids [T, 3] of text tokens, all 0.
func TextIDs(t int) [][3]float32 { return make([][3]float32, t) }
