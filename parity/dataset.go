package parity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/sciflux/sciflux/dataset"
)

// runDataset is kind "dataset": a split of parquet shards, every column as read.
func runDataset(ctx context.Context, c *Case, _ Options) (*Outputs, error) {
	var args struct {
		Folder string `json:"folder"`
		Split  string `json:"split"`
	}
	if err := c.Args(&args); err != nil {
		return nil, err
	}
	set, err := dataset.Open(c.File(args.Folder), args.Split)
	if err != nil {
		return nil, err
	}
	defer func() { _ = set.Close() }()
	rows := []map[string]any{}
	for r, err := range set.All(ctx) {
		if err != nil {
			return nil, err
		}
		row, err := datasetRow(ctx, r)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	out := NewOutputs()
	out.Value("count", set.Len())
	out.Value("row_groups", set.RowGroups())
	out.Value("rows", rows)
	return out, nil
}

func datasetRow(ctx context.Context, r dataset.Row) (map[string]any, error) {
	row := map[string]any{
		dataset.ImplicitPrompt: datasetText(r.Implicit), dataset.ExplicitPrompt: datasetText(r.Explicit),
		dataset.SuperficialPrompt: datasetText(r.Superficial),
	}
	for name, images := range map[string]dataset.Images{
		dataset.ExplicitImage: r.ExplicitImages, dataset.SuperficialImage: r.SuperficialImages,
	} {
		v, err := datasetImages(ctx, images)
		if err != nil {
			return nil, err
		}
		row[name] = v
	}
	for name, cell := range r.Cells {
		row[name] = datasetCell(cell)
	}
	for name, v := range r.Ints {
		row[name] = v
	}
	for name, v := range r.Floats {
		row[name] = v
	}
	return row, nil
}

func datasetCell(c dataset.Cell) any {
	if !c.Valid {
		return nil
	}
	return c.Value
}

func datasetText(t dataset.Text) any {
	switch {
	case !t.Valid:
		return nil
	case !t.List:
		return t.Values[0].Value
	}
	values := []any{}
	for _, c := range t.Values {
		values = append(values, datasetCell(c))
	}
	return values
}

func datasetImages(ctx context.Context, images dataset.Images) (any, error) {
	if !images.Valid {
		return nil, nil
	}
	list := []any{}
	for _, im := range images.List {
		if im == nil {
			list = append(list, nil)
			continue
		}
		entry := map[string]any{"path": datasetCell(im.Path)}
		if im.Stored {
			data, err := im.Data(ctx)
			if err != nil {
				return nil, err
			}
			info, err := im.Info(ctx)
			if err != nil {
				return nil, err
			}
			sum := sha256.Sum256(data)
			entry["sha256"], entry["width"], entry["height"] = hex.EncodeToString(sum[:]), info.Width, info.Height
		}
		list = append(list, entry)
	}
	return list, nil
}
