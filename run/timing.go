package run

// Timing says where the time of a run's execution went, by the workflow service's own record of it. Attempts that failed
// count as time outside activities.
type Timing struct {
	WallSeconds     float64 `json:"wall_seconds"`     // from its start to its end, or to its last event
	ActivitySeconds float64 `json:"activity_seconds"` // during which at least one activity was at work
	OutsideShare    float64 `json:"outside_share"`    // of the wall time during which none was, 0..1
	TrainSeconds    float64 `json:"train_seconds"`    // of the activities that train
	SaveSeconds     float64 `json:"save_seconds"`     // of that, waiting until checkpoints were durable
	SaveShare       float64 `json:"save_share"`       // 0..1
}

// NewTiming measures the spans of an execution's activities, and of those that train, against its whole life.
func NewTiming(life Span, activities, training []Span, saved float64) Timing {
	t := Timing{WallSeconds: life.End.Sub(life.Start).Seconds(), ActivitySeconds: BusySeconds(activities...), TrainSeconds: BusySeconds(training...), SaveSeconds: saved}
	if t.WallSeconds > 0 {
		t.OutsideShare = max(0, 1-t.ActivitySeconds/t.WallSeconds)
	}
	if t.TrainSeconds > 0 {
		t.SaveShare = t.SaveSeconds / t.TrainSeconds
	}
	return t
}
