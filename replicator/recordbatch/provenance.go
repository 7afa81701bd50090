package recordbatch

// HopHeader is the key of the headers that say where a record has been: one for each copy, with the id of the cluster it was copied from.
const HopHeader = "milena.hop"

// Provenance lets records say where they have been, and keeps them from going there again.
type Provenance struct {
	// From is the id of the cluster that the records are read from; every record gets a header with it.
	From string
	// To is the id of the cluster that they are written to; a record that has been there is left out.
	To string
}

// Passes says whether a record has not been on the target yet.
func (p *Provenance) Passes(r *Record) bool { return !r.Has(p.To) }

// Has says whether a record has been on a cluster.
func (r *Record) Has(cluster string) bool {
	for i := range r.Headers {
		if h := &r.Headers[i]; h.Key == HopHeader && string(h.Value) == cluster {
			return true
		}
	}
	return false
}

// mark gives the entries that pass their hop, and leaves out the others. The bodies of entries may alias the scratch's buffers, so that
// the new ones go behind what is there.
func (s *scratch) mark(entries []entry, p *Provenance) []entry {
	kept := entries[:0]
	for _, e := range entries {
		var r Record
		if readBody(e.body, &r) != "" || !p.Passes(&r) { // decode has checked the body
			continue
		}
		r.Headers = append(r.Headers, RecordHeader{Key: HopHeader, Value: []byte(p.From)})
		start := len(s.bodies)
		s.bodies = appendBody(s.bodies, &r)
		e.body = s.bodies[start:]
		kept = append(kept, e)
	}
	return kept
}
