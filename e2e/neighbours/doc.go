// Package neighbours measures what a busy topic suffers while a topic beside it cannot be copied.
//
//	neighbours.go  the faults, and what happens around each
//	scene.go       clusters, topics and milena, and how they are broken and mended
//	lag.go         how the lag of the busy topic is measured
//
// The package e2e/long runs it.
package neighbours
