// Package pages reads the column chunks of parquet files one page at a time, in memory that does not grow with the page.
//
// The parquet library decodes levels, encodings and values; finding pages and decompressing them is done here, for two
// reasons. Writers put a thousand pictures into one page (pyarrow's default: half a gigabyte), and whoever wants one of
// them must not hold them all: a page of pictures is decompressed as a stream up to the picture. And every page has to
// have the very size that its header tells: a codec that gives fewer or other bytes is an error here, never an empty value.
package pages
