// Package instances lets several milenas share a flow under random faults, judges what they have copied, and measures how long partitions stood still.
//
// A run has a source, a target of three brokers, and milenas with the same flow. Each milena has its own line to each broker, so that one of them can
// be cut off. A plan of faults follows from a seed alone. The faults hit one after the other, and some while the last one lasts. Then the writers stop,
// the milenas catch up, and the copies are judged: nothing is lost, nothing is there twice, nothing is out of order, every shard is held once, and
// no process has written to a partition after its successor (judge.go).
//
//	plan.go        which faults, in which order and for how long; a function of the seed
//	world.go       clusters, topics, writers and milenas
//	inject.go      what each fault does
//	judge.go       what must be true at the end
//	standstill.go  how long each partition stood still, from the times at which the target appended
//	histogram.go   the same by kind of fault
//	run.go         a run
//
// The packages e2e and e2e/long run it.
package instances
