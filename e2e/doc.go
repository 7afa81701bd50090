// Package e2e tests the built milena binary against real Apache Kafka brokers.
//
// The tests need Linux, Java 17 and Maven (apt-get install openjdk-17-jdk-headless maven). Maven downloads Kafka's jars once, into the user's
// cache directory. Without MILENA_E2E the tests are skipped:
//
//	MILENA_E2E=1 go test ./e2e -timeout 40m              run all; skip if Java or Maven is missing
//	MILENA_E2E=require go test ./e2e -timeout 40m        run all; fail if Java or Maven is missing
//	MILENA_E2E=1 go test ./e2e -run TestTwentyKills -v   run some, and print what they measure
//
// TestKerberos also needs a KDC (apt-get install krb5-kdc krb5-admin-server krb5-user) and is skipped without one. TestAlerts needs prometheus in PATH,
// as Debian's package has it. With MILENA_LONG=1 it lets every alert fire, and else those that take less than a minute together. Other tests that take long
// and are much like another one are skipped without MILENA_LONG=1 too.
//
// More environment variables:
//
//	MILENA_E2E_RACE=1      build milena with the race detector
//	MILENA_E2E_BIN=path    test this binary instead of building one
//	MILENA_E2E_SEED=17     repeat a run; the log has the seed
//	MILENA_E2E_KEEP=dir    keep logs and data in this directory
//
// # Parts
//
//   - proc starts processes and measures their CPU time and memory.
//   - kafka starts clusters of real brokers and runs Kafka's own tools.
//   - proxy is a TCP proxy that resets, freezes, slows or swallows.
//   - mm2 starts MirrorMaker 2.
//   - daemon starts milena and reads its status and metrics.
//   - load writes records of every shape, with sequence numbers.
//   - verify compares what two clusters hold.
//   - faults lets milena copy under random faults and judges the result.
//   - instances lets several milenas share a flow under random faults, judges them, and measures how long partitions stand still.
//   - versions copies between clusters of different versions of Kafka, and upgrades brokers while milena runs.
//   - neighbours measures what a busy topic suffers while a topic beside it cannot be copied.
//   - switching moves an application of real clients from one cluster to the other and back, and judges what it saw.
//   - long has tests that run for many minutes, with a command of their own.
//   - bench is a command that compares milena with MirrorMaker 2.
//
// Neither these nor the tests import the packages replicator and policy, which the linter enforces: they see milena from outside, through its
// command line, HTTP and Kafka. They use the library offsets as its users do. TestFreeze starts clusters and runs the tests of replicator/freeze
// against them, which cannot start any.
//
// # Tests
//
// startPair starts a source and a target cluster, pair.startMilena a milena with one flow between them. A test writes records, breaks something,
// waits for events, and ends in the verifier: pair.waitAndVerify or pair.verify. A fixed time passes only to let a load run, or to see that
// nothing more happens. A wait that is too long fails with what it waited for and the last state. A panic or a data race of milena fails the
// test.
//
// Helpers are in harness_test.go (clusters and daemons), groups_test.go (committed offsets, and what consumers experience when they move to the
// other cluster), consumers_test.go (real consumers), anomalies_test.go (unclean elections) and migrate_test.go (a load that MirrorMaker 2
// copies first).
package e2e
