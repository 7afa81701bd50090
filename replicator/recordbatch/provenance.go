package recordbatch

// HopHeader is the key of the provenance headers. A record gets one each time it is copied; the value is the id of the cluster that it was
// copied from.
const HopHeader = "milena.hop"

// Provenance marks records with the cluster they are copied from, and keeps records from returning to a cluster where they have been.
type Provenance struct {
	// From is the cluster id of the source. Every record gets a header with it.
	From string
	// To is the cluster id of the target. Records that have been there are left out.
	To string
}

// Allows reports whether a record has never been on the target.
func (p *Provenance) Allows(r *Record) bool { return !r.HasHop(p.To) }

// HasHop reports whether a record has a provenance header of a cluster, that is, whether it has been there.
func (r *Record) HasHop(cluster string) bool {
	for i := range r.Headers {
		if h := &r.Headers[i]; h.Key == HopHeader && string(h.Value) == cluster {
			return true
		}
	}
	return false
}

// mark adds a provenance header to the entries that p allows, and leaves out the others. The bodies of entries may alias the buffers of the
// scratch, so new bodies are appended to what is there.
func (s *scratch) mark(entries []entry, p *Provenance) []entry {
	kept := entries[:0]
	for _, e := range entries {
		var r Record
		if readBody(e.body, &r) != "" || !p.Allows(&r) { // decode has checked the body
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
