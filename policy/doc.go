// Package policy decides; it never acts. Which topics a flow copies and under which names, which topic configs and ACLs
// the target gets, and what happens when the source or the target lost or changed data.
//
// # Purity
//
// Nothing here does I/O, reads a clock, logs, or knows a Kafka client. Every function is a question with an answer that
// depends on its arguments alone, so the whole package is tested with tables, and one value may be shared by all
// goroutines: Topics, ConfigFilter and Anomalies do not change after their constructors.
//
// # Words
//
//   - source and target: the two clusters of a flow. A topic has a name on each.
//   - hop: one alias in a prefix name. `eu.us.orders` on a cluster arrived from eu, which had it from us: two hops.
//   - twin: the target topic that a source topic is copied into.
//   - dynamic: set on the topic itself (DYNAMIC_TOPIC_CONFIG), not inherited from a broker or from Kafka's defaults.
//
// # Selection, in this order
//
//  1. A rename flow copies only the topics of its table.
//  2. Internal topics are never copied: Kafka's, MirrorMaker 2's, Kafka Connect's as MirrorMaker 2 uses it, and milena's.
//  3. topics_exclude wins over everything below.
//  4. topics selects. `heartbeats` topics need no selection under prefix and identity naming, as in MirrorMaker 2:
//     counting hops is what they are for. Unlike there, topics_exclude turns that off.
//  5. A topic that has been on the target before (the target's alias is one of its hops) is not sent back.
//  6. A target name must be one that Kafka accepts and that no internal topic uses.
//
// # Invariants
//
//   - Source(Target(t)) = t for every copied t, unless Collisions reports t.
//   - Under prefix naming no sequence of flows, in a ring or a chain, copies a record back into a cluster that it was in.
//   - After the changes of DiffConfigs were applied, DiffConfigs returns nothing; so does DiffACLs.
//   - Nobody may do more with a copy than with its source topic, and DiffACLs gives nobody anything on other topics.
//   - Every Kind of anomaly halts unless the user wrote another action.
//
// # What it does not do
//
// It does not know which topics exist (the caller asks both clusters), it does not check that two flows stay out of each
// other's topics (config does), and it keeps nothing between two calls.
package policy
