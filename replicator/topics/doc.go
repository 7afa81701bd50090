// Package topics keeps the topics on the target in sync with the source: which topics are copied under which names, their partitions, configs
// and ACLs. The topic on the target that holds the copy is called the remote topic.
//
//	view.go     metadata of a cluster: topics, partitions, leaders
//	topics.go   selects topics and plans missing remote topics
//	create.go   creates topics without the configs that a cluster refuses, and adds partitions
//	limit.go    how many topics a cluster accepts in a request, and which it refuses
//	own.go      the topics that milena keeps for itself
//	configs.go  compares configs and alters those that differ; the limits that follow for batches
//	transactions.go  which broker config keeps a cluster from having transactions
//	fence.go         whether the target has the requests that the fence of a flow needs
//	migratefrom.go   whether the topic that migrate_from names is there
//	acls.go     compares ACLs, creates and deletes them; package policy decides which
//	bounds.go   first and last offsets of all partitions
//	preview.go  what a sync would do, without changing anything, for milena check
//	expect.go   the configs of topics and of their copies once they are in sync, for milena doctor
//
// The caller repeats each sync. The package starts no goroutine, and its calls block only for responses.
package topics
