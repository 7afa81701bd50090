// Package topics creates and keeps in step the topics on the target: which topics are copied under which names, partitions, configs, and
// ACLs. It reads the metadata of both clusters.
//
//	view.go     what a cluster says of its topics, partitions and leaders
//	topics.go   selects topics, creates missing ones and adds partitions
//	configs.go  compares configs and alters those that differ; the limits that follow for batches
//	acls.go     compares, creates and deletes ACLs; package policy says which
//	edges.go    first and last offsets of all partitions
//	preview.go  the same without changing anything, for a check
//
// Everything is a sync that the caller repeats: nothing here starts a goroutine or waits for anything but answers.
package topics
