// Package fleet reads how a flow is, whoever runs it and wherever: the instances and their shards, the lag of every partition, and what needs
// attention. It asks the two clusters and no instance. It changes nothing. `milena status -c FILE` prints what it reads.
//
//	read.go       Read: both clusters, in parallel
//	journal.go    the journal on the target: how far each partition is, what halted it, and who owned the shards last
//	instances.go  the consumer group on the target: the instances and their shards
//	source.go     the source: the selected topics and the ends of their partitions
//	join.go       the three together: a row per partition, and the sums
//	report.go     the report
//
// What is not known is null or has a reason, and is never 0. An instance journals its progress every few seconds, so the lag is what it was then,
// plus what the source has got since. See [Report.JournaledAt].
//
// Memory is a small row per partition. It does not depend on the length of the journal.
package fleet
