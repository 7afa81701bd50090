package replicator

import (
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// writers says who writes the target topics beside this flow. It is chosen when the flow is made.
type writers interface {
	// accepts says whether the target may put a batch at base, where expected is the end of the copy.
	accepts(expected, base int64) bool
	// excludes says whether a batch of another producer in the copy is an anomaly.
	excludes() bool
	// checkUnknown judges one batch that was in the target before anything was copied: nil, errTargetNotEmpty, or why it cannot be read.
	checkUnknown(batch []byte) error
	// provenance is what records are marked with, nil if they are not. Both clusters were reached by then.
	provenance() *recordbatch.Provenance
	// groupsTranslate says whether a place in a source topic has one place in its copy.
	groupsTranslate() bool
}

// writersOf chooses by the config.
func writersOf(f *Flow) writers {
	if f.config.Provenance {
		return sharedTopics{f}
	}
	return soleWriter{}
}

// soleWriter is a flow whose remote topics nobody else writes.
type soleWriter struct{}

func (soleWriter) accepts(expected, base int64) bool   { return base == expected }
func (soleWriter) excludes() bool                      { return true }
func (soleWriter) checkUnknown([]byte) error           { return errTargetNotEmpty }
func (soleWriter) provenance() *recordbatch.Provenance { return nil }
func (soleWriter) groupsTranslate() bool               { return true }

// sharedTopics is a flow with provenance: producers of that cluster and flows from elsewhere write the same topics. What they write is
// neither an anomaly nor a doubt. That a batch was written once is then known by its sequence number and the fence alone: the check of every
// answer's offset, which also finds a late owner of old records, is not left.
type sharedTopics struct{ flow *Flow }

func (sharedTopics) accepts(expected, base int64) bool { return base >= expected }
func (sharedTopics) excludes() bool                    { return false }
func (sharedTopics) groupsTranslate() bool             { return false }

func (w sharedTopics) provenance() *recordbatch.Provenance {
	return &recordbatch.Provenance{From: w.flow.sourceID(), To: w.flow.targetID()}
}

// checkUnknown: others may have written the batch, but it must hold nothing that came from the source.
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
