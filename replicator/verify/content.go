package verify

import (
	"bytes"
	"fmt"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// content compares the content of records.
type content struct {
	// hop is the cluster id that each copied record has in a provenance header behind its own headers; empty if they have none.
	hop string
	// ignoreTimes says that the broker of the target set the timestamps of the copy.
	ignoreTimes bool
}

// differ returns what differs between a record and its copy, and how; both are empty if they are equal. Null and empty are not equal.
func (c content) differ(source, target *recordbatch.Record) (What, string) {
	switch {
	case !equal(source.Key, target.Key):
		return Key, fmt.Sprintf("the key is %s on the source and %s on the target", describe(source.Key), describe(target.Key))
	case !equal(source.Value, target.Value):
		return Value, fmt.Sprintf("the value is %s on the source and %s on the target", describe(source.Value), describe(target.Value))
	case !c.ignoreTimes && source.Timestamp != target.Timestamp:
		return Timestamp, fmt.Sprintf("the timestamp is %d on the source and %d on the target", source.Timestamp, target.Timestamp)
	}
	headers, copied := source.Headers, target.Headers
	if c.hop != "" {
		n := len(copied) - 1
		if n < 0 || copied[n].Key != recordbatch.HopHeader || string(copied[n].Value) != c.hop {
			return Headers, "the last header of the target is not the provenance header of the source cluster"
		}
		copied = copied[:n]
	}
	if len(headers) != len(copied) {
		return Headers, fmt.Sprintf("the source has %d headers and the target %d", len(headers), len(copied))
	}
	for i := range headers {
		if headers[i].Key != copied[i].Key {
			return Headers, fmt.Sprintf("the key of header %d differs", i)
		}
		if !equal(headers[i].Value, copied[i].Value) {
			return Headers, fmt.Sprintf("the value of header %d is %s on the source and %s on the target", i, describe(headers[i].Value), describe(copied[i].Value))
		}
	}
	return "", ""
}

func equal(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// describe says what a field is without its content, which may be confidential.
func describe(field []byte) string {
	switch {
	case field == nil:
		return "null"
	case len(field) == 0:
		return "empty"
	default:
		return fmt.Sprintf("%d bytes (CRC32C %08x)", len(field), checksum(field))
	}
}
