package replicator

import (
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// writers is the policy for other producers that write to the target topics. It is chosen when the flow is created.
type writers interface {
	// allowsOffset reports whether the target may append a batch at offset base, where expected is the end of the copy.
	allowsOffset(expected, base int64) bool
	// forbidsOthers reports whether a batch of another producer in the target topic is an anomaly.
	forbidsOthers() bool
	// checkUnknown checks a batch that was in the target topic before anything was copied. It returns nil if the batch is allowed there,
	// errTargetNotEmpty if not, or another error if it cannot be decoded.
	checkUnknown(batch []byte) error
	// provenance returns the mark of copied records, nil if they are not marked. It needs the ids of both clusters.
	provenance() *recordbatch.Provenance
	// canTranslateGroups reports whether each offset of a source topic has one offset in its copy.
	canTranslateGroups() bool
}

// writersOf returns the policy that the config selects.
func writersOf(f *Flow) writers {
	if f.config.Provenance {
		return sharedTopics{f}
	}
	return soleWriter{}
}

// soleWriter is the policy of a flow that is the only producer of its remote topics.
type soleWriter struct{}

func (soleWriter) allowsOffset(expected, base int64) bool { return base == expected }
func (soleWriter) forbidsOthers() bool                    { return true }
func (soleWriter) checkUnknown([]byte) error              { return errTargetNotEmpty }
func (soleWriter) provenance() *recordbatch.Provenance    { return nil }
func (soleWriter) canTranslateGroups() bool               { return true }

// sharedTopics is the policy of a flow with provenance: producers on the target cluster and other flows write to the same topics. Their
// writes are not an anomaly and make no outcome uncertain. But only sequence numbers and the fence then guarantee that a batch is written
// once: the offset in a produce response can no longer be checked, which would also detect an earlier owner that writes old records.
type sharedTopics struct{ flow *Flow }

func (sharedTopics) allowsOffset(expected, base int64) bool { return base >= expected }
func (sharedTopics) forbidsOthers() bool                    { return false }
func (sharedTopics) canTranslateGroups() bool               { return false }

func (w sharedTopics) provenance() *recordbatch.Provenance {
	return &recordbatch.Provenance{From: w.flow.sourceID(), To: w.flow.targetID()}
}

// checkUnknown allows batches of other producers, unless they have a record that came from the source.
func (w sharedTopics) checkUnknown(batch []byte) error {
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return err
	}
	for i := range records {
		if records[i].HasHop(w.flow.sourceID()) {
			return errTargetNotEmpty
		}
	}
	return nil
}
