//go:build race

package replicator

func init() { withRaceDetector = true }
