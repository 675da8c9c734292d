// Package report writes the page that a run ends with: one self-contained HTML file with the numbers, curves and
// pictures that show what was learned, readable in light and dark, from a file or a web server, without any script
// being needed to read it.
package report
