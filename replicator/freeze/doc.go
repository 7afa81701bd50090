// Package freeze stops the producers of a cluster for a switchover, and undoes that exactly.
//
//	freeze.go   what is asked for, the plan, the memory, and the three methods
//	access.go   who may write to a topic, and which ACLs take that away: no requests
//	aclplan.go  plans a freeze by ACLs
//	acls.go     creates, checks and deletes the ACLs
//	brokers.go  what brokers say about their authorizer and milena's rights; waits until all brokers have a change
//	quotas.go   plans, sets, checks and puts back quotas
//	byhand.go   what to do with Kafka's own tools if the memory is lost
//
// [NewPlan] changes nothing. Its [Memory] is JSON, and all that [Freeze] does and [Thaw] takes back: it is kept before Freeze is called, so that
// whoever finds it later can call Thaw, however far Freeze came. Memory names each topic once, however many principals are denied: about the size
// of the names of the topics. A plan is as old as the answers that it was made from. An ACL that somebody else creates between the plan and
// Freeze, and that is the same as one of the freeze, cannot be told from it, and is deleted by Thaw.
//
// Freeze returns once all brokers that the cluster names have the change, and [Holds] finds nothing missing. That nothing is written any more is
// proven by the ends of the logs only, which is up to the caller: super users pass ACLs, and a throttled producer may have one request left.
//
// # acl
//
// WRITE is taken away from the topics; all other rights stay, and so do consumers. Brokers check each request, so a connected producer is refused
// at its next one with TOPIC_AUTHORIZATION_FAILED, which clients do not retry: the application sees the error. An idempotent producer that starts
// while all topics that it may write to are frozen is refused at its start, with CLUSTER_AUTHORIZATION_FAILED. A producer with an open
// transaction cannot write to it any more, and can still commit or abort it; if it does neither, the transaction stays open until its timeout.
//
// ACLs know no exceptions, and a DENY beats every ALLOW. So it depends on milena which ACLs are created, all of them for any host and for the name
// of the topic:
//
//   - Milena does not write to the topics, or is a super user: DENY WRITE to User:*. That stops also who is allowed to write later.
//   - Milena writes to them: DENY WRITE to each principal but milena's that an ACL allows WRITE or ALL, for the topic, for a prefix of its name or
//     for all topics, from any host. Who is allowed to write later is not denied; Holds finds that. An ACL that allows User:* to write cannot be
//     taken away in this way, so the plan refuses it.
//
// Milena is known to be a super user if it may do with a topic what no ACL allows its principal; brokers do not tell who is (super.users). With a
// wrong principal, Freeze finds that milena lost WRITE, and takes everything back.
//
// With allow.everyone.if.no.acl.found=true everyone may do everything with topics that no ACL applies to, and the first ACL of one ends that. There
// the freeze allows ALL to User:* besides its DENY; if milena writes, it denies nothing, and allows User:* everything but WRITE, and milena WRITE.
// Brokers list this key of their file but hide its value. Milena's own rights on a topic without ACL tell the value, if its rights on another
// topic show that it is no super user. Otherwise the plan refuses topics without ACLs until somebody says what the value is.
//
// All ACLs of a topic are created and deleted in one request, so that nobody is without other rights in between. Milena needs ALTER on the cluster,
// and DESCRIBE_CONFIGS on it to see the keys above.
//
// # quota
//
// For clusters without authorizer. Brokers look for producer_byte_rate at: user and client id; user and default client id; user; default user and
// client id; default user and default client id; default user; client id; default client id. They take the first. So the rate of the default user
// with the default client id is set to 1 B/s, which beats the last three, and so is each rate that is set for one of the first four. Milena's user
// gets the rate that it has, or none to speak of, with the default client id, unless it has one of its own already. Where nobody logs in, all are
// User:ANONYMOUS, and milena's client ids get it instead. All rates are put back as they were, absent ones too; one that somebody changed
// meanwhile stays, and Thaw says so.
//
// This is softer than ACLs. It is for the whole cluster, so producers to other topics are stopped too. A broker appends a request before it
// throttles: each connection may write one more, also after a client has connected again, which some do while they are muted (kgo within a minute,
// and its request in the buffer cannot be canceled). And a connection stays muted after the freeze was taken back: minutes for a small record, hours
// for a full batch, as what was written in the 10 s before the freeze counts (kgo: two minutes after a record of 7 bytes, 24 after 300 B/s). A broker
// closes it after its connections.max.idle.ms, without carrying out what the client has sent meanwhile. A rate that mutes for a shorter time stops
// nobody who writes little, so it stays at the lowest one. Clients write at once when they connect again. Milena needs DESCRIBE_CONFIGS and ALTER_CONFIGS on the cluster, which runs Kafka 2.6 or later.
//
// # none
//
// Nothing is changed: people stop the producers. A min.insync.replicas above the number of replicas is no freeze, as Kafka 4 takes at most the
// number of replicas.
package freeze
