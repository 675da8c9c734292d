// Package dataset reads Science-T2I style parquet files: three kinds of prompts, right and superficial pictures, category
// and law, in shards SPLIT-00000-of-0000N.parquet. A prompt column is a string (test splits) or a list of strings
// (training splits), an image column a list of {bytes, path}; both are told from the file's own schema, whatever its
// writer named the middle levels of a list.
package dataset
