package vae

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/sciflux/sciflux/engine"
	"github.com/sciflux/sciflux/store/safetensors"
)

// picture64 is one picture [C, h, w] in float64. The functions below are a second implementation of both halves, pixel by
// pixel from the definitions, reading tensors by their names in the file.
type picture64 struct {
	c, h, w int
	data    []float64
}

func blank(c, h, w int) picture64 { return picture64{c, h, w, make([]float64, c*h*w)} }

// at is a pixel, 0 outside.
func (p picture64) at(c, y, x int) float64 {
	if y < 0 || x < 0 || y >= p.h || x >= p.w {
		return 0
	}
	return p.data[(c*p.h+y)*p.w+x]
}

type exact struct {
	t      *testing.T
	src    safetensors.Source
	groups int
}

func (e exact) values(name string) []float64 {
	info, ok := e.src.Info(name)
	if !ok {
		e.t.Fatalf("no tensor %s", name)
	}
	v, err := e.src.Float32(name, info.Shape...)
	if err != nil {
		e.t.Fatal(err)
	}
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func (e exact) has(name string) bool {
	_, ok := e.src.Info(name)
	return ok
}

// conv is the convolution of a name with a step and zeros before each side; zeros behind are as many as it takes.
func (e exact) conv(name string, x picture64, step, before, h, w int) picture64 {
	weight, bias := e.values(name+".weight"), e.values(name+".bias")
	k := int(math.Sqrt(float64(len(weight) / len(bias) / x.c)))
	y := blank(len(bias), h, w)
	for o := range y.c {
		for i := range h {
			for j := range w {
				sum := bias[o]
				for c := range x.c {
					for a := range k {
						for b := range k {
							sum += weight[((o*x.c+c)*k+a)*k+b] * x.at(c, i*step+a-before, j*step+b-before)
						}
					}
				}
				y.data[(o*h+i)*w+j] = sum
			}
		}
	}
	return y
}

func (e exact) same(name string, x picture64) picture64 { return e.conv(name, x, 1, 1, x.h, x.w) }

func silu(v float64) float64 { return v / (1 + math.Exp(-v)) }

// norm normalises groups of channels; f is applied afterwards.
func (e exact) norm(name string, x picture64, f func(float64) float64) picture64 {
	weight, bias, y := e.values(name+".weight"), e.values(name+".bias"), blank(x.c, x.h, x.w)
	per := x.c / e.groups * x.h * x.w
	for g := range e.groups {
		part := x.data[g*per : (g+1)*per]
		mean, square := 0.0, 0.0
		for _, v := range part {
			mean += v / float64(per)
		}
		for _, v := range part {
			square += (v - mean) * (v - mean) / float64(per)
		}
		for k, v := range part {
			c := (g*per + k) / (x.h * x.w)
			y.data[g*per+k] = f((v-mean)/math.Sqrt(square+1e-6)*weight[c] + bias[c])
		}
	}
	return y
}

func (e exact) resnet(name string, x picture64) picture64 {
	y := e.same(name+".conv2", e.norm(name+".norm2", e.same(name+".conv1", e.norm(name+".norm1", x, silu)), silu))
	skip := x
	if e.has(name + ".conv_shortcut.weight") {
		skip = e.conv(name+".conv_shortcut", x, 1, 0, x.h, x.w)
	}
	for i, v := range skip.data {
		y.data[i] += v
	}
	return y
}

// attention is over all pixels of the picture, one head.
func (e exact) attention(name string, x picture64) picture64 {
	n, pixels := e.norm(name+".group_norm", x, func(v float64) float64 { return v }), x.h*x.w
	project := func(layer string, from func(c, p int) float64) [][]float64 {
		weight, bias := e.values(name+"."+layer+".weight"), e.values(name+"."+layer+".bias")
		rows := make([][]float64, pixels)
		for p := range rows {
			rows[p] = append([]float64(nil), bias...)
			for o := range bias {
				for c := range x.c {
					rows[p][o] += weight[o*x.c+c] * from(c, p)
				}
			}
		}
		return rows
	}
	pixel := func(c, p int) float64 { return n.data[c*pixels+p] }
	q, k, v := project("to_q", pixel), project("to_k", pixel), project("to_v", pixel)
	seen := make([][]float64, pixels)
	for i := range seen {
		weights, sum := make([]float64, pixels), 0.0
		for j := range weights {
			dot := 0.0
			for c := range x.c {
				dot += q[i][c] * k[j][c]
			}
			weights[j] = math.Exp(dot / math.Sqrt(float64(x.c)))
			sum += weights[j]
		}
		seen[i] = make([]float64, x.c)
		for j, w := range weights {
			for c := range x.c {
				seen[i][c] += w / sum * v[j][c]
			}
		}
	}
	out := project("to_out.0", func(c, p int) float64 { return seen[p][c] })
	y := blank(x.c, x.h, x.w)
	for c := range x.c {
		for p := range pixels {
			y.data[c*pixels+p] = x.data[c*pixels+p] + out[p][c]
		}
	}
	return y
}

func (e exact) middle(half string, x picture64) picture64 {
	x = e.resnet(half+".mid_block.resnets.0", x)
	x = e.attention(half+".mid_block.attentions.0", x)
	return e.resnet(half+".mid_block.resnets.1", x)
}

func (e exact) encode(x picture64, levels, layers int) picture64 {
	x = e.same("encoder.conv_in", x)
	for l := range levels {
		name := fmt.Sprintf("encoder.down_blocks.%d", l)
		for r := range layers {
			x = e.resnet(fmt.Sprintf("%s.resnets.%d", name, r), x)
		}
		if down := name + ".downsamplers.0.conv"; e.has(down + ".weight") {
			x = e.conv(down, x, 2, 0, x.h/2, x.w/2)
		}
	}
	return e.same("encoder.conv_out", e.norm("encoder.conv_norm_out", e.middle("encoder", x), silu))
}

func (e exact) decode(x picture64, levels, layers int) picture64 {
	x = e.middle("decoder", e.same("decoder.conv_in", x))
	for l := range levels {
		name := fmt.Sprintf("decoder.up_blocks.%d", l)
		for r := range layers + 1 {
			x = e.resnet(fmt.Sprintf("%s.resnets.%d", name, r), x)
		}
		if up := name + ".upsamplers.0.conv"; e.has(up + ".weight") {
			big := blank(x.c, 2*x.h, 2*x.w)
			for c := range x.c {
				for i := range big.h {
					for j := range big.w {
						big.data[(c*big.h+i)*big.w+j] = x.at(c, i/2, j/2)
					}
				}
			}
			x = e.same(up, big)
		}
	}
	return e.same("decoder.conv_out", e.norm("decoder.conv_norm_out", x, silu))
}

func near(t *testing.T, what string, got []float32, want func(i int) float64) {
	t.Helper()
	for i, g := range got {
		if w := want(i); math.Abs(float64(g)-w) > 5e-5*(1+math.Abs(w)) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, g, w)
		}
	}
}

// part is picture b of images in float64.
func part(images *engine.Tensor, b int) picture64 {
	p := blank(images.Shape[1], images.Shape[2], images.Shape[3])
	for i, v := range images.Floats()[b*len(p.data) : (b+1)*len(p.data)] {
		p.data[i] = float64(v)
	}
	return p
}

// TestHalvesByDefinition: encoder and decoder on pictures that are not square, pixel by pixel in float64.
func TestHalvesByDefinition(t *testing.T) {
	v, ctx := tinyVAE(t), context.Background()
	src, err := safetensors.Open(filepath.Join(folder, "diffusion_pytorch_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	c := v.Config
	e, levels := exact{t, src, c.NormNumGroups}, len(c.BlockOutChannels)
	images := noise(1, 2, 3, 16, 24)
	posterior, err := v.Encode(ctx, images)
	if err != nil {
		t.Fatal(err)
	}
	latents := noise(2, 2, c.LatentChannels, 3, 2)
	decoded, err := v.Decode(ctx, latents)
	if err != nil {
		t.Fatal(err)
	}
	for b := range 2 {
		moments := e.encode(part(images, b), levels, c.LayersPerBlock)
		n := posterior.Mean.Len() / 2
		near(t, fmt.Sprint("mean of picture ", b), posterior.Mean.Floats()[b*n:(b+1)*n], func(i int) float64 { return moments.data[i] })
		near(t, fmt.Sprint("log variance of picture ", b), posterior.LogVar.Floats()[b*n:(b+1)*n], func(i int) float64 { return math.Max(-30, math.Min(20, moments.data[n+i])) })

		z := part(latents, b)
		for i := range z.data {
			z.data[i] = z.data[i]/c.ScalingFactor + c.ShiftFactor
		}
		want := e.decode(z, levels, c.LayersPerBlock)
		n = decoded.Len() / 2
		near(t, fmt.Sprint("decoded picture ", b), decoded.Floats()[b*n:(b+1)*n], func(i int) float64 { return want.data[i] })
	}
}

// TestSamplesFollowThePosterior: a draw without noise is the scaled mean; mean and spread of many draws are the
// posterior's, scaled.
func TestSamplesFollowThePosterior(t *testing.T) {
	v := tinyVAE(t)
	p := Posterior{Mean: engine.Wrap([]float32{2, -1}, 1, 2, 1, 1), LogVar: engine.Wrap([]float32{0, float32(2 * math.Log(3))}, 1, 2, 1, 1)}
	still, err := v.Sample(p, make([]float32, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range v.Latent(p).Floats() {
		if still.Floats()[i] != x {
			t.Errorf("without noise latent %d is %v, the scaled mean %v", i, still.Floats()[i], x)
		}
	}
	const n = 20_000
	draws := noise(7, 2*n).Floats()
	var sum, square [2]float64
	for k := range n {
		z, err := v.Sample(p, draws[2*k:2*k+2])
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range z.Floats() {
			unscaled := float64(x)/v.Config.ScalingFactor + v.Config.ShiftFactor
			sum[i], square[i] = sum[i]+unscaled/n, square[i]+unscaled*unscaled/n
		}
	}
	for i, std := range []float64{1, 3} {
		mean := float64(p.Mean.Floats()[i])
		if math.Abs(sum[i]-mean) > 4*std/math.Sqrt(n) || math.Abs(math.Sqrt(square[i]-sum[i]*sum[i])-std) > 4*std/math.Sqrt(2*n) {
			t.Errorf("value %d: mean %v and spread %v, want %v and %v", i, sum[i], math.Sqrt(square[i]-sum[i]*sum[i]), mean, std)
		}
	}
}
