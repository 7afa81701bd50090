// Package plan works out what a flow would do if it were started now: names, partitions, configs, ACLs, missing rights. It changes nothing
// and may run beside the flow; brokers are asked to validate only. `milena check` prints it.
//
//	plan.go       the check
//	migration.go  what it finds of a MirrorMaker 2 whose copies the flow continues
package plan
