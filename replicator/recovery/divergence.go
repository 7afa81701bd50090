package recovery

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/fleet"
)

// DivergedAction is what a failback does with the records that only the old source has.
type DivergedAction string

// The actions.
const (
	// RefuseDiverged begins nothing if there are any.
	RefuseDiverged DivergedAction = "refuse"
	// Keep lets the flow copy them when it goes on.
	Keep DivergedAction = "keep"
	// Export exports them, and the flow leaves them out.
	Export DivergedAction = "export"
)

// DivergedOptions say what a failback does with the records that only the old source has.
type DivergedOptions struct {
	Action DivergedAction `json:"action,omitempty"`
	// File is a file that gets them as JSON lines. It must not exist.
	File string `json:"file,omitempty"`
	// Topics means that topics of the target get them.
	Topics bool `json:"topics,omitempty"`
	// Doubtful also exports records of which it is not known whether the target has them, and goes on although there are any.
	Doubtful bool `json:"doubtful,omitempty"`
}

// Diverged is what only the old source of a flow that failed over has.
type Diverged struct {
	// Records and Bytes are certainly not on the target, DoubtfulRecords may be there.
	Records         int64 `json:"records"`
	Bytes           int64 `json:"bytes"`
	DoubtfulRecords int64 `json:"doubtful_records"`
	// Uncounted is how many partitions could not be counted, and Doubtful how many have a doubt.
	Uncounted int `json:"uncounted"`
	Doubtful  int `json:"doubtful"`
	// Exported is how many records are in File and in Topics, which are on the target; LeftOut how many of them the flow does not copy.
	Exported int64    `json:"exported"`
	LeftOut  int64    `json:"left_out"`
	File     string   `json:"file,omitempty"`
	Topics   []string `json:"topics,omitempty"`
	// Warnings are sentences about the topics.
	Warnings []string `json:"warnings,omitempty"`
	// NotCopied has the selected topics of the source that the flow cannot copy, with the reason.
	NotCopied map[string]string `json:"not_copied,omitempty"`
	// Partitions are those with something to say, by topic and number, and OtherPartitions how many more there are than are listed once the failback has begun.
	Partitions      []diverged.Partition `json:"partitions"`
	OtherPartitions int                  `json:"other_partitions,omitempty"`
}

// What a report has at most: its record must fit into the control topic.
const (
	maxDiverged        = 500
	maxDivergedText    = 200
	maxDivergedReasons = 100
)

// bounded is what the control topic keeps: the partitions with the most records, and those of which something is not known.
func (d *Diverged) bounded() *Diverged {
	b := *d
	weight := func(p *diverged.Partition) int64 {
		if p.Records == nil || p.Doubt != nil {
			return math.MaxInt64
		}
		return *p.Records
	}
	b.Partitions = slices.Clone(d.Partitions)
	slices.SortStableFunc(b.Partitions, func(x, y diverged.Partition) int { return cmp.Compare(weight(&y), weight(&x)) })
	b.Partitions = b.Partitions[:min(maxDiverged, len(b.Partitions))]
	b.OtherPartitions = len(d.Partitions) - len(b.Partitions)
	slices.SortStableFunc(b.Partitions, func(x, y diverged.Partition) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	for i := range b.Partitions {
		p := &b.Partitions[i]
		p.Problem, p.Notes = clip(p.Problem), slices.Clone(p.Notes[:min(1, len(p.Notes))])
		for j := range p.Notes {
			p.Notes[j] = clip(p.Notes[j])
		}
		if p.Doubt != nil {
			doubt := *p.Doubt
			doubt.Why = clip(doubt.Why)
			p.Doubt = &doubt
		}
	}
	if len(d.NotCopied) > maxDivergedReasons {
		b.NotCopied = make(map[string]string)
		for _, topic := range slices.Sorted(keys(d.NotCopied))[:maxDivergedReasons] {
			b.NotCopied[topic] = d.NotCopied[topic]
		}
	}
	return &b
}

func clip(text string) string {
	if len(text) <= maxDivergedText {
		return text
	}
	return strings.ToValidUTF8(text[:maxDivergedText], "") + "…"
}

// ends are the offsets, exclusive, up to which partitions were exported, by topic and number.
func (d *Diverged) ends() map[string]map[int32]int64 {
	ends := make(map[string]map[int32]int64)
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if p.From == p.To && p.Doubt == nil {
			continue
		}
		if ends[p.Topic] == nil {
			ends[p.Topic] = make(map[int32]int64)
		}
		ends[p.Topic][p.Partition] = p.To
	}
	return ends
}

// A takeover moves the ends in the journal, also of a flow that is stopped: then all is read again, a few times.
const (
	listAttempts = 3
	listPause    = time.Second
)

func listDiverged(ctx context.Context, c client.Clusters) (*diverged.Report, error) {
	for attempt := 1; ; attempt++ {
		r, err := diverged.List(ctx, c)
		if err != nil || !r.Moved || attempt == listAttempts {
			return r, err
		}
		if err := client.Sleep(ctx, listPause); err != nil {
			return nil, err
		}
	}
}

func divergedOf(r *diverged.Report) *Diverged {
	d := &Diverged{Records: r.Records, Bytes: r.Bytes, Uncounted: r.Uncounted, Doubtful: r.Doubtful, NotCopied: r.NotCopied, Partitions: []diverged.Partition{}}
	for i := range r.Partitions {
		p := r.Partitions[i]
		if p.Doubt != nil && p.Doubt.Records != nil {
			d.DoubtfulRecords += *p.Doubt.Records
		}
		if p.Records == nil || *p.Records > 0 || p.Doubt != nil || p.Gone+p.Open+p.Ahead > 0 {
			p.Gaps = nil // milena status has them
			d.Partitions = append(d.Partitions, p)
		}
	}
	return d
}

// where says where exported records are, as the end of a sentence.
func (d *Diverged) where() string {
	var places []string
	if d.File != "" {
		places = append(places, "file "+d.File)
	}
	if n := len(d.Topics); n > 0 {
		places = append(places, firstOf(d.Topics))
	}
	if len(places) == 0 {
		return ""
	}
	return " are in " + strings.Join(places, " and in ")
}

// isNone reports whether it is known that the old source has nothing of its own.
func (d *Diverged) isNone() bool {
	return d != nil && d.Records+int64(d.Doubtful)+int64(d.Uncounted) == 0
}

// cannotExport says why the records cannot be exported and left out, empty if they can.
func (d *Diverged) cannotExport(doubtful bool) string {
	var uncounted, open, unlisted, doubts []string
	for i := range d.Partitions {
		p := &d.Partitions[i]
		name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
		switch {
		case p.Records == nil:
			uncounted = append(uncounted, fmt.Sprintf("%s (%s)", name, p.Problem))
		case p.Open > 0:
			open = append(open, name)
		case p.Doubt != nil && !doubtful:
			doubts = append(doubts, fmt.Sprintf("%s (%s)", name, p.Doubt.Why))
		case *p.Records > 0 && !p.Listed:
			unlisted = append(unlisted, name)
		}
	}
	switch {
	case len(uncounted) > 0:
		return "these could not be counted, so nobody can export them: " + firstOf(uncounted)
	case len(open) > 0:
		return "these have open transactions, behind which nothing can be exported; wait until they end: " + firstOf(open)
	case len(doubts) > 0:
		return "it is not known whether a part of these is on the target; --doubtful exports that too: " + firstOf(doubts)
	case len(unlisted) > 0:
		return "the flow has never copied these, so it cannot leave a part of them out; exclude the topics from the flow, or use --diverged keep: " + firstOf(unlisted)
	}
	return ""
}

// leaveOutOf are the decisions that let a flow continue behind what was exported.
func leaveOutOf(ctx context.Context, c client.Clusters, ends map[string]map[int32]int64, who, why string) (list []control.Decision, err error) {
	r, err := fleet.Read(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range r.Partitions {
		of := &r.Partitions[i]
		to, exported := ends[of.Topic][of.Partition]
		switch {
		case !exported:
			continue
		case of.Journaled == nil:
			return nil, fmt.Errorf("it is not known up to where %s-%d is copied: %s", of.Topic, of.Partition, of.Why)
		case *of.Journaled >= to:
			continue // an earlier process left them out
		}
		from := *of.Journaled
		decision := control.New(control.Skip, control.Scope{Kind: control.Partition, Topic: of.Topic, Partition: of.Partition}, who, why)
		decision.From, decision.To = &from, &to
		list = append(list, decision)
	}
	return list, nil
}

// exporter writes what only the old source has. The file appears under its name once it is complete.
type exporter struct {
	clusters client.Clusters
	o        DivergedOptions
	report   *diverged.Report
	found    *Diverged
	id       string
}

// partial is the file that is written. It is of this recovery, which may write it again.
func (x *exporter) partial() string { return x.o.File + "." + x.id + ".partial" }

// export exports all of it. If it was broken off, it is repeated as a whole, because the source may have more by now.
func (x *exporter) export(ctx context.Context) error {
	if x.found.Records+x.found.DoubtfulRecords == 0 {
		return nil
	}
	if x.o.Topics {
		done, err := diverged.Export(ctx, x.clusters, diverged.Options{Doubtful: x.o.Doubtful, Format: diverged.Topic}, x.report)
		if err != nil {
			return err
		}
		x.found.Exported, x.found.Topics, x.found.Warnings = done.Records, done.Topics, done.Warnings
	}
	if x.o.File == "" {
		return nil
	}
	done, err := x.write(ctx)
	if err != nil {
		_ = x.clean() // it only has a part, or has it under another name
		return fmt.Errorf("export to %s: %w", x.o.File, err)
	}
	x.found.Exported, x.found.File = done.Records, x.o.File
	return nil
}

// write writes the file, and gives it its name.
func (x *exporter) write(ctx context.Context) (*diverged.Exported, error) {
	if x.isNamed() { // by a process of this recovery that was killed before it could say so
		if err := os.Remove(x.o.File); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(x.partial(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriter(file)
	done, err := diverged.Export(ctx, x.clusters, diverged.Options{Doubtful: x.o.Doubtful, Format: diverged.JSONLines, Writer: buffered}, x.report)
	if err == nil {
		err = errors.Join(buffered.Flush(), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(x.partial(), x.o.File); err != nil { // which never overwrites
		return nil, err
	}
	return done, syncFolder(x.o.File)
}

// isNamed reports whether the file has its name already.
func (x *exporter) isNamed() bool {
	partial, err := os.Stat(x.partial())
	if err != nil {
		return false
	}
	named, err := os.Stat(x.o.File)
	return err == nil && os.SameFile(partial, named)
}

// clean removes the second name of the file.
func (x *exporter) clean() error {
	if x.o.File == "" {
		return nil
	}
	if err := os.Remove(x.partial()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// syncFolder makes the name of a file durable.
func syncFolder(name string) error {
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
