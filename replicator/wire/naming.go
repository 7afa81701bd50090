package wire

// naming is whether a request and its response identify topics by id or by name. By id, no request ever reaches another topic that has the
// same name (KIP-516). By name is how requests work where topics have no ids: on brokers before 2.8, and on later ones with ZooKeeper and an
// inter.broker.protocol.version below 2.8. Those offer the versions with ids, and respond UNKNOWN_TOPIC_ID to each of them.
type naming bool

const (
	byID   naming = true
	byName naming = false
)

// firstVersionByID is the first version of Fetch and of Produce that identifies topics by id.
const firstVersionByID = 13

// namingOf returns the naming of a response.
func namingOf(version int16) naming { return version >= firstVersionByID }

// with returns the naming of a request with one more topic. A request in which one topic has no id identifies all by name.
func (n naming) with(id [16]byte) naming { return n && id != [16]byte{} }

// cap limits the version of a request.
func (n naming) cap(version int16) int16 {
	if n == byName {
		return min(version, firstVersionByID-1)
	}
	return version
}

// topicKey identifies a topic in a request, whatever its naming is.
type topicKey struct {
	name string
	id   [16]byte
}

// partitionKey identifies a partition as a response does.
type partitionKey struct {
	id        [16]byte
	partition int32
	name      string
}

func (n naming) key(name string, id [16]byte, partition int32) partitionKey {
	if n == byID {
		return partitionKey{id: id, partition: partition}
	}
	return partitionKey{name: name, partition: partition}
}
