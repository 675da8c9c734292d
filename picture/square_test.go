package picture

import "testing"

func TestSquare(t *testing.T) {
	for _, c := range [][2]int{{64, 64}, {100, 64}, {64, 130}, {10, 33}, {1, 5}} {
		p := New(c[0], c[1])
		for i := range p.Pix {
			p.Pix[i] = 77
		}
		q, err := p.Square(32)
		if err != nil {
			t.Fatal(err)
		}
		if q.Width != 32 || q.Height != 32 || q.Pix[0] != 77 || q.Pix[len(q.Pix)-1] != 77 {
			t.Errorf("%v: %d×%d, corners %d %d", c, q.Width, q.Height, q.Pix[0], q.Pix[len(q.Pix)-1])
		}
	}
	p := New(8, 8)
	if q, _ := p.Square(8); q != p {
		t.Error("a picture of the right size is made again")
	}
	// The middle is kept: a wide picture's left third is cut off.
	wide := New(90, 30)
	for i := range 30 {
		wide.Pix[3*(i*90+45)] = 255
	}
	q, _ := wide.Square(30)
	if q.Pix[3*15] != 255 {
		t.Error("the middle column is not in the middle")
	}
}
