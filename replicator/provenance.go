package replicator

import (
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// A flow with provenance writes topics that others write as well: producers of that cluster, and flows from elsewhere. What they write is
// no anomaly there, and no doubt. What says that a batch was written once is then its sequence number and the fence alone: the check of
// every answer's offset, which also finds a late owner of old records, is not left.

// provenance is what records are marked with, nil if they are not. Both clusters were reached by then.
func (f *Flow) provenance() *recordbatch.Provenance {
	if !f.config.Provenance {
		return nil
	}
	return &recordbatch.Provenance{From: f.sourceID(), To: f.targetID()}
}

// knownToOthers judges one batch that stands in the target before anything was copied: with provenance others may have written it, but it
// must hold nothing that came from the source.
func (f *Flow) knownToOthers(batch []byte) error {
	if !f.config.Provenance {
		return errTargetNotEmpty
	}
	records, err := recordbatch.Decode(batch)
	if err != nil {
		return err
	}
	for i := range records {
		if records[i].Has(f.sourceID()) {
			return errTargetNotEmpty
		}
	}
	return nil
}
