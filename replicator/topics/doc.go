// Package topics keeps the topics on the target in sync with the source: which topics are copied under which names, their partitions, configs
// and ACLs. The topic on the target that holds the copy is called the remote topic.
//
//	view.go     metadata of a cluster: topics, partitions, leaders
//	topics.go   selects topics, creates missing remote topics and adds partitions
//	configs.go  compares configs and alters those that differ; the limits that follow for batches
//	acls.go     compares ACLs, creates and deletes them; package policy decides which
//	bounds.go   first and last offsets of all partitions
//	preview.go  what a sync would do, without changing anything, for milena check
//
// The caller repeats each sync. The package starts no goroutine, and its calls block only for responses.
package topics
