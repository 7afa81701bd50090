// Command milena replicates Kafka clusters.
//
//	milena help            list all commands
//	milena help COMMAND    print what a command does, examples and its flags
//
// The function commands has the list. Each command has a file of its name with a method of program, its verb, that defines its flags, reads them and does the
// rest; the work behind it is in package replicator. Cobra finds the verb of a command line and hands it the arguments. It also completes command
// lines and writes man pages, for which it asks a verb for its flags: called with --help, a verb does nothing but define and print them.
//
// Flags, signals, exit codes, environment variables and HTTP are handled in this package and nowhere else. Package guard decides who may use HTTP.
// What controls a flow is an order (order.go), whether flags or a request (api.go) make it.
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
// SIGHUP lets milena run read its config again, as it does by itself when the content of the file changes (reload.go). All changes are prepared before
// the first one takes effect. If one of them is refused, the config in force stays as it is.
//
// # Start and stop
//
// HTTP is bound before anything else and closed last, so that probes and operators can see a start that waits and a stop that
// drains. /healthz answers 200 while the process lives and its loops go on. /readyz answers 200 only while every flow is ready, see
// replicator.Status. Restart on the first, alert or route on the second.
package main
