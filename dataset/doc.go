// Package dataset reads data sets of prompts and pictures: Science-T2I parquet files with three kinds of prompts and right and
// superficial pictures, folders of pictures with captions, and webdataset archives. docs/formats.md has the layouts.
//
// A Set holds the texts of its rows. Pictures stay where they are until one is asked for: Image knows the place, in a page of
// a parquet file (package pages), in an archive, or in a file that the data name, which must lie inside the data folder.
package dataset
