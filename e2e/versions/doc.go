// Package versions copies between clusters of different versions of Kafka, with ZooKeeper and without, and checks what arrives.
//
//	ages.go       the versions, and what their brokers can do
//	run.go        what happens in one run
//	scene.go      clusters, topics and milena
//	groups.go     where committed offsets have to be on the target, and groups that are not followed
//	upgrade.go    brokers are upgraded while milena runs
//	recreate.go   topics without ids are deleted and created again
//	heartbeats.go the topic heartbeats on sources before 2.4
//	limits.go     the limits of managed services
//	requests.go   more partitions than a controller creates in one request
//	oldformat.go  a target whose brokers write records in a format before 0.11
//
// The package e2e runs a few pairs of versions, e2e/long runs all of them.
package versions
