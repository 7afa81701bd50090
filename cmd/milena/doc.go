// Command milena replicates Kafka clusters.
//
//	milena run -c FILE             copy topics until stopped by a signal
//	milena run --compare -c FILE   compare with a running MirrorMaker 2; write nothing
//	milena check -c FILE           print what run would do; change nothing
//	milena status [-c FILE]        show lag and the partitions that need attention
//	milena verify -c FILE          prove that the copies are equal to their source; write nothing
//	milena translate -c FILE       translate offsets between the source and the target
//	milena convert FILE            print an mm2.properties file as a milena.yaml
//	milena rollback -c FILE        compute where MirrorMaker 2 resumes a stopped flow
//	milena demo                    replicate between two in-memory clusters and verify every record
//	milena version                 print the version
//
// Flags, signals, exit codes, environment variables and HTTP are handled in this package and nowhere else. Each command has a
// file of its name; the work behind it is in package replicator. What controls a flow is an order (order.go), whether flags or a request (api.go) make it.
//
// # Exit codes
//
//	0  success, or a clean stop after a signal
//	1  failure, run --compare or verify found a difference, or status found something that needs attention; stderr says what and what to do
//	2  the command line or the config is wrong; all problems are listed
//	3  verify found no difference, and could not verify everything
//
// # Signals
//
// SIGINT and SIGTERM stop cleanly: stop fetching, wait for in-flight batches, write the journal, exit. A second signal kills the
// process. Killing it is safe at any time: the next start only has to read more to recover.
//
// # Start and stop
//
// HTTP is bound before anything else and closed last, so that probes and operators can see a start that waits and a stop that
// drains. /healthz answers 200 while the process lives. /readyz answers 200 only while every flow is ready, see
// replicator.Status. Restart on the first, alert or route on the second.
package main
