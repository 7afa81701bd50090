// Command milena replicates Kafka clusters.
//
//	milena run -c milena.yaml     copy until told to stop
//	milena run --compare -c ...   copy nothing: say what a running MirrorMaker 2 does otherwise
//	milena check -c milena.yaml   say what run would do, and change nothing
//	milena status                 ask a running milena which partitions need attention
//	milena translate              where a group, an offset or a moment is on the other side
//	milena convert mm2.properties print the milena.yaml that means the same
//	milena handback               tell MirrorMaker 2 where to go on
//	milena demo                   two clusters, load and a flow in this process: nothing to install
//	milena version
//
// This package is the roof: flags, signals, exits, the environment and HTTP are here and nowhere else. What a verb does is
// in the file with its name; what it works with is in package replicator.
//
// # Exit codes
//
//	0  done, or stopped cleanly by a signal
//	1  failed, or a comparison found a difference: a sentence on stderr says what and what to do
//	2  the command line or the config is wrong; all problems are listed
//
// # Signals
//
// SIGINT and SIGTERM stop cleanly: fetch no more, let what is in flight land, journal, leave. A second one kills. Killing is
// safe at any moment, it only makes the next start read more.
//
// # Order of life
//
// HTTP is bound before anything else and closed last, so that probes and people see a start that waits and a stop that
// drains. /healthz answers 200 for as long as the process lives, /readyz only while every shard of every flow is owned and
// recovered: restart on the first, route or alert on the second.
package main
