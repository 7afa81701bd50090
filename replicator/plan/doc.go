// Package plan computes what a flow would do if it were started now: topics, partitions, configs and ACLs to create or change, missing rights,
// and a migration from MirrorMaker 2. It also looks for what endangers the flow on both clusters. It changes nothing and fences nobody, so it may run
// beside the flow. `milena check` prints the plan, `milena doctor` the findings, and package compare reports its differences.
//
//	plan.go       the plan and the steps that compute it
//	topics.go     topics, configs and ACLs
//	timestamps.go records that a target topic would refuse for their timestamps
//	rights.go     rights on topics, the journal, MirrorMaker 2's internal topics, and transactions
//	migration.go  the MirrorMaker 2 that the flow migrates from
//
//	doctor.go     the examination and its steps
//	findings.go   findings, and the commands that mend them
//	listeners.go  brokers: reach, certificates, versions
//	clocks.go     the clocks of both clusters
//	replicas.go   leaders, replicas, min.insync.replicas, the transaction log
//	losses.go     what the source deletes before it is copied
//	copies.go     configs of copies: sizes, timestamps, retention
//	codecs.go     copies that are compressed anew
//	ownconfigs.go configs of the journal and of the internal topics
//	quotas.go     the quotas that apply to milena
//	groupkinds.go groups that are not followed, or cannot move
//
// What cannot work goes to [Plan.Refused]. What only degrades the flow goes to [Plan.Warnings]. Requests that would change something are sent with
// validate-only set. One request may leave a trace: looking up a transaction coordinator makes brokers create the topic __transaction_state, if
// it does not exist. [Inspect] leaves it out. A [Finding] is for people to act on: it has no effect on the plan.
package plan
