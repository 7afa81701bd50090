package diverged

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// Line is a record as a line of JSON. Bytes that are valid UTF-8 are text: key, value, and those of headers. All others are base64 in a field that ends with _base64, and
// the text field is absent then. Null is null, and not the same as an empty text.
//
//	{"topic":"orders","partition":0,"offset":17,"timestamp":"2026-01-31T15:04:05.123Z","timestamp_ms":1769871845123,"timestamp_type":"create",
//	 "key":"a","value":null,"headers":[{"key":"trace","value_base64":"/wA="}]}
type Line struct {
	Topic     string `json:"topic"` // on the source, as Partition and Offset
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	// Timestamp is RFC 3339 with milliseconds in UTC; null if the record has none, or one that has no such form.
	Timestamp   *string `json:"timestamp"`
	TimestampMS int64   `json:"timestamp_ms"` // since 1970, -1 for none
	// TimestampType is create or append: who set it, the producer or the broker.
	TimestampType string `json:"timestamp_type"`
	Key           Bytes  `json:"key"`
	Value         Bytes  `json:"value"`
	// Headers are in the order of the record; keys may repeat.
	Headers []LineHeader `json:"headers"`
}

// LineHeader is a header of a [Line].
type LineHeader struct {
	Key   string
	Value Bytes
}

// Bytes are nil for null.
type Bytes []byte

// appendField appends a field with bytes: its name, or its name and _base64.
func appendField(b []byte, name string, value []byte) ([]byte, error) {
	var (
		encoded []byte
		err     error
	)
	switch {
	case value == nil:
		encoded = []byte("null")
	case utf8.Valid(value):
		encoded, err = marshal(string(value))
	default:
		name += "_base64"
		encoded, err = json.Marshal(value)
	}
	if err != nil {
		return nil, err
	}
	b = append(b, '"')
	b = append(append(b, name...), '"', ':')
	return append(b, encoded...), nil
}

// marshal is json.Marshal without the escapes for HTML.
func marshal(v any) ([]byte, error) {
	w := &sliceWriter{}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return w.b[:len(w.b)-1], nil // without the newline
}

type sliceWriter struct{ b []byte }

// Write implements io.Writer.
func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// MarshalJSON implements json.Marshaler: the names of fields depend on their content.
func (l Line) MarshalJSON() ([]byte, error) {
	head, err := marshal(struct {
		Topic         string  `json:"topic"`
		Partition     int32   `json:"partition"`
		Offset        int64   `json:"offset"`
		Timestamp     *string `json:"timestamp"`
		TimestampMS   int64   `json:"timestamp_ms"`
		TimestampType string  `json:"timestamp_type"`
	}{l.Topic, l.Partition, l.Offset, l.Timestamp, l.TimestampMS, l.TimestampType})
	if err != nil {
		return nil, err
	}
	b := append(head[:len(head)-1], ',')
	if b, err = appendField(b, "key", l.Key); err != nil {
		return nil, err
	}
	if b, err = appendField(append(b, ','), "value", l.Value); err != nil {
		return nil, err
	}
	b = append(b, `,"headers":[`...)
	for i, h := range l.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendField(append(b, '{'), "key", []byte(h.Key)); err != nil {
			return nil, err
		}
		if b, err = appendField(append(b, ','), "value", h.Value); err != nil {
			return nil, err
		}
		b = append(b, '}')
	}
	return append(b, ']', '}'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Line) UnmarshalJSON(data []byte) error {
	var raw struct {
		Topic         string  `json:"topic"`
		Partition     int32   `json:"partition"`
		Offset        int64   `json:"offset"`
		Timestamp     *string `json:"timestamp"`
		TimestampMS   int64   `json:"timestamp_ms"`
		TimestampType string  `json:"timestamp_type"`
		rawKey
		rawValue
		Headers []struct {
			rawKey
			rawValue
		} `json:"headers"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*l = Line{
		Topic: raw.Topic, Partition: raw.Partition, Offset: raw.Offset, Timestamp: raw.Timestamp, TimestampMS: raw.TimestampMS, TimestampType: raw.TimestampType,
		Key: bytesOf(raw.Key, raw.KeyBase64), Value: bytesOf(raw.Value, raw.ValueBase64),
	}
	for _, h := range raw.Headers {
		l.Headers = append(l.Headers, LineHeader{string(bytesOf(h.Key, h.KeyBase64)), bytesOf(h.Value, h.ValueBase64)})
	}
	return nil
}

type rawKey struct {
	Key       *string `json:"key"`
	KeyBase64 []byte  `json:"key_base64"`
}

type rawValue struct {
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64"`
}

func bytesOf(text *string, binary []byte) Bytes {
	if text != nil {
		return append(Bytes{}, *text...)
	}
	return binary
}

// newLine returns a record as a line.
func newLine(topic string, partition int32, b recordbatch.Batch, r *recordbatch.Record) Line {
	l := Line{
		Topic: topic, Partition: partition, Offset: r.Offset, TimestampMS: r.Timestamp, TimestampType: "create", Key: r.Key, Value: r.Value,
		Headers: make([]LineHeader, 0, len(r.Headers)),
	}
	if b.Attributes.LogAppendTime() {
		l.TimestampType = "append"
	}
	if r.Timestamp >= 0 && r.Timestamp <= lastTime {
		text := time.UnixMilli(r.Timestamp).UTC().Format("2006-01-02T15:04:05.000Z07:00")
		l.Timestamp = &text
	}
	for _, h := range r.Headers {
		l.Headers = append(l.Headers, LineHeader{h.Key, h.Value})
	}
	return l
}

// lastTime is the end of the year 9999, beyond which RFC 3339 has no form.
const lastTime = 253_402_300_799_999

// lines writes records as lines.
type lines struct {
	writer  io.Writer
	buffers *bufio.Writer
}

func (s *lines) begin(context.Context, part) (next, before int64, err error) {
	if s.buffers == nil {
		s.buffers = bufio.NewWriterSize(s.writer, 64<<10)
	}
	return math.MinInt64, 0, nil
}

func (s *lines) add(_ context.Context, p part, b recordbatch.Batch, records []recordbatch.Record) error {
	for i := range records {
		line, err := newLine(p.logRange.Topic, p.logRange.Partition, b, &records[i]).MarshalJSON()
		if err != nil {
			return err
		}
		if _, err := s.buffers.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (s *lines) end(context.Context, part) error { return s.buffers.Flush() }
