package offsets

// IsAnotherTopic reports whether two topic ids (KIP-516) show that a topic of one name was deleted and created again.
// Zero means that the id is not known: on brokers before 2.8, and on later ones with ZooKeeper as long as their
// inter.broker.protocol.version is below 2.8. A topic gets its id when that is raised, and stays the same topic.
func IsAnotherTopic(a, b [16]byte) bool {
	unknown := [16]byte{}
	return a != b && a != unknown && b != unknown
}
