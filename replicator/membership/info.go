package membership

import "encoding/json"

// Info is what an instance tells the others when it joins the group.
type Info struct {
	// Version is that of the instance's binary.
	Version string `json:"v,omitempty"`
	// Process is an id that no other process has, also none with the same instance id.
	Process string `json:"p,omitempty"`
	// Weights are the loads of the shards that the instance holds now, in one unit for all instances, for example bytes per second. A load that
	// is not known yet is missing or 0. The load of a shard that is known to be idle is 1.
	Weights map[int32]int64 `json:"w,omitempty"`
	// Claimed are the shards that the instance holds. When it joins without an assignment, the group takes them for its own, so that they go to others
	// only after it has handed them over.
	Claimed []int32 `json:"-"`
}

// encode has equal bytes for equal infos: a broker rebalances the group if an instance joins again with other bytes.
func (i Info) encode() []byte {
	data, err := json.Marshal(i) // sorts the keys
	if err != nil {
		return nil // a string and a map of numbers have no error
	}
	return data
}

// decodeInfo returns the zero Info for what it cannot read: an instance of another version must not keep the group from being balanced.
func decodeInfo(data []byte) Info {
	var i Info
	if json.Unmarshal(data, &i) != nil {
		return Info{}
	}
	return i
}
