// Package plan computes what a flow would do if it were started now: topics, partitions, configs and ACLs to create or change, missing rights,
// and a migration from MirrorMaker 2. It changes nothing and fences nobody, so it may run beside the flow. `milena check` prints the plan, and
// package compare reports its differences.
//
//	plan.go       the plan and the steps that compute it
//	topics.go     topics, configs and ACLs
//	timestamps.go records that a target topic would refuse for their timestamps
//	rights.go     rights on topics, the journal, MirrorMaker 2's internal topics, and transactions
//	migration.go  the MirrorMaker 2 that the flow migrates from
//
// What cannot work goes to [Plan.Refused]. What only degrades the flow goes to [Plan.Warnings]. Requests that would change something are sent with
// validate-only set. One request may leave a trace: looking up a transaction coordinator makes brokers create the topic __transaction_state, if
// it does not exist. [Inspect] leaves it out.
package plan
