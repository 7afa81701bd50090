// Package membership divides the shards of a flow among its instances. The instances are the members of one consumer group on the target
// cluster, over the flow's journal topic: who is assigned partition k of the journal owns shard k. The group consumes nothing.
//
//	name.go      the name of the group
//	member.go    joins the group, tells what is assigned and revoked, confirms the membership, and leaves
//	info.go      what an instance tells the others when it joins: its version and the load of its shards
//	assignor.go  the plan of the group's leader, as the group protocol wants it
//	balance.go   which instance gets which shard
//	describe.go  the group as others see it
package membership
