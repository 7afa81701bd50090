// Package faults lets milena copy under random faults and then judges what it has copied.
//
// A run has two clusters of three brokers behind proxies, a milena, writers to topics of every kind, and a plan: a list of faults that follows
// from a seed alone. The faults hit one after the other, some of them in pairs. Then the writers stop, milena catches up, and every topic is
// judged by its own rule (judge.go): nothing is lost, nothing is there twice, nothing is out of order, and no partition is halted.
//
//	plan.go    which faults, in which order and for how long; a function of the seed
//	world.go   clusters, topics, writers and milena
//	inject.go  what each fault does
//	judge.go   what must be true of each topic
//	explain.go what there is to know where it is not
//	run.go     a run
//
// The package e2e/long runs it.
package faults
