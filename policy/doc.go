// Package policy holds the decisions of a flow: which topics it copies and under which names, which topic configs and ACLs
// the target gets, which committed offsets may be moved there, and what happens if the source or the target lost or changed
// data. It decides and never acts.
//
// # Purity
//
// Nothing here does I/O, reads a clock, logs, or uses a Kafka client. The result of every function depends on its arguments
// only, so the package is tested with tables. Topics, Groups, ConfigFilter and Anomalies do not change after their
// constructors, so goroutines may share them.
//
// # Words
//
//   - source and target: the two clusters of a flow. A topic has a name on each.
//   - hop: one alias in a prefix name. `eu.us.orders` was copied from eu, which had copied it from us: two hops.
//   - remote topic: the target topic that a source topic is copied to.
//   - dynamic: set on the topic itself (DYNAMIC_TOPIC_CONFIG), not a default of a broker or of Kafka.
//
// # Topic selection, in this order
//
//  1. A topic that is internal on the source is not copied: Kafka's, MirrorMaker 2's, those of Kafka Connect as MirrorMaker 2
//     uses it, and milena's.
//  2. A rename flow copies only the topics of its table.
//  3. topics_exclude wins over everything below.
//  4. topics selects. In a rename flow it may be empty, which selects the whole table. With prefix and identity naming,
//     `heartbeats` topics need no selection, as in MirrorMaker 2, because they are used to count hops. Unlike in
//     MirrorMaker 2, topics_exclude can exclude them.
//  5. A topic that comes from the target (the target's alias is one of its hops) is not copied back.
//  6. The target name must be within Kafka's length limit, and not that of an internal topic.
//
// # Invariants
//
//   - Source(Target(t)) = t for every copied t, unless Collisions reports t.
//   - With prefix naming, no sequence of flows, in a cycle or a chain, copies a record back to a cluster that it has been in.
//   - After the changes of DiffConfigs were applied, DiffConfigs returns nothing. The same holds for DiffACLs.
//   - The ACLs that DiffACLs creates allow no more on a remote topic than the source allows on its source topic, and nothing
//     on other topics.
//   - Every anomaly kind halts unless the user chose another action.
//
// # What it does not do
//
// It does not know which topics exist: the caller asks both clusters. It does not check that two flows write different
// topics: config does. It keeps no state between calls.
package policy
