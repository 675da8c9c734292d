// Package reward judges pictures: SciScore, and where in a picture the preference counts.
package reward

// Images are B pictures [B, 3, H, W] with values in [0, 1], as a pipeline decodes them. Values may lie outside; whoever
// reads 8 bits clamps them.
type Images struct {
	Data    []float32
	B, H, W int
}
