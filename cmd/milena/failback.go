package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/milena-kafka/milena/replicator/diverged"
	"github.com/milena-kafka/milena/replicator/freeze"
	"github.com/milena-kafka/milena/replicator/recovery"
)

const failbackHelp = `milena failback brings clients home to the source of a flow that has failed over, once it is back. It lists
what only the old source has, waits until the reverse flow has caught up, and switches over along that,
which starts the flow again. If there are such records, say what becomes of them: with --diverged keep
the flow copies them when it goes on, with export they are exported, and the flow leaves them out. A
failback that was broken off is resumed by the same command.

Examples:
  milena failback -c milena.yaml --flow primary-dr --dry-run
  milena failback -c milena.yaml --flow primary-dr --diverged keep --reason "primary is repaired"
  milena failback -c milena.yaml --flow primary-dr --diverged export --export-to diverged.jsonl
`

// failbackTimeout is how long a failback may take unless --timeout says otherwise.
const failbackTimeout = time.Hour

func (p *program) failback(ctx context.Context, args []string) error {
	r := p.recoveryFlags("failback", failbackHelp, failbackTimeout)
	o := &r.options.Diverged
	action := r.flags.String("diverged", string(recovery.RefuseDiverged), "`WHAT` becomes of records that only the old source has: refuse begins nothing, keep copies them, export exports them and leaves them out")
	r.flags.StringVar(&o.File, "export-to", "", "a new `FILE` for them, as JSON lines")
	r.flags.BoolVar(&o.Topics, "export-topics", false, "put them into topics milena.FLOW.diverged.TOPIC of the target")
	r.flags.BoolVar(&o.Doubtful, "doubtful", false, "go on although it is not known of some records whether the target has them; export these, too")
	r.flags.Int64Var(&r.options.MaxLag, "max-lag", 100_000, "the switchover begins once the reverse flow has at most so many `RECORDS` left")
	how := r.flags.String("freeze", string(freeze.ACL), "`HOW` the producers of the target are stopped: acl denies them WRITE, quota throttles them, none leaves it to you")
	clusters, reverse, err := r.parse(p, args)
	if err != nil {
		return err
	}
	r.options.Freeze, o.Action = freeze.Method(*how), recovery.DivergedAction(*action)
	exports := o.File != "" || o.Topics
	switch {
	case !slices.Contains([]freeze.Method{freeze.ACL, freeze.Quota, freeze.None}, r.options.Freeze):
		return wrong(r.flags, "--freeze %q must be acl, quota or none", *how)
	case !slices.Contains([]recovery.DivergedAction{recovery.RefuseDiverged, recovery.Keep, recovery.Export}, o.Action):
		return wrong(r.flags, "--diverged %q must be refuse, keep or export", *action)
	case o.Action == recovery.Export && !exports:
		return wrong(r.flags, "--diverged export needs --export-to FILE, --export-topics or both")
	case o.Action != recovery.Export && exports:
		return wrong(r.flags, "--export-to and --export-topics need --diverged export")
	}
	return p.carryOutRecovery(ctx, r, func(ctx context.Context, o recovery.Options) (*recovery.Report, error) {
		return recovery.FailBack(ctx, clusters, reverse, o)
	})
}

// mostDiverged is how many partitions are printed.
const mostDiverged = 20

// printDiverged prints what only the old source has, the partitions with the most first.
func (p *program) printDiverged(d *recovery.Diverged) {
	if d == nil || len(d.Partitions) == 0 {
		return
	}
	list := slices.Clone(d.Partitions)
	slices.SortStableFunc(list, func(a, b diverged.Partition) int { return cmp.Compare(weight(&b), weight(&a)) })
	w := p.table()
	row(w, "ONLY ON THE OLD SOURCE\tRECORDS\tBYTES\tOFFSETS\tNOTE")
	for i := range list[:min(mostDiverged, len(list))] {
		of := &list[i]
		records := "not known"
		if of.Records != nil {
			records = fmt.Sprint(*of.Records)
		}
		row(w, "%s-%d\t%s\t%d\t%d to %d\t%s", of.Topic, of.Partition, records, of.Bytes, of.From, max(of.From, of.To-1), divergedNote(of))
	}
	_ = w.Flush()
	if n := len(list) + d.OtherPartitions - min(mostDiverged, len(list)); n > 0 {
		p.printf("and %d more\n", n)
	}
	for _, text := range d.Warnings {
		p.printf("  %s\n", text)
	}
}

// weight orders partitions: what is not known comes first.
func weight(p *diverged.Partition) int64 {
	if p.Records == nil {
		return 1 << 62
	}
	return *p.Records
}

func divergedNote(p *diverged.Partition) string {
	switch {
	case p.Problem != "":
		return p.Problem
	case p.Doubt != nil && p.Doubt.Records != nil:
		return fmt.Sprintf("and %d from offset %d on that may be on the target: %s", *p.Doubt.Records, p.Doubt.From, p.Doubt.Why)
	case p.Doubt != nil:
		return fmt.Sprintf("and offsets %d to %d may be on the target: %s", p.Doubt.From, p.Doubt.To-1, p.Doubt.Why)
	case p.Open > 0:
		return fmt.Sprintf("%d offsets are behind an open transaction", p.Open)
	case p.Ahead > 0:
		return fmt.Sprintf("the source has lost %d offsets that were copied", p.Ahead)
	case p.Gone > 0:
		return fmt.Sprintf("the source has deleted %d offsets that were never copied", p.Gone)
	}
	return ""
}
