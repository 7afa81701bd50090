package replicator

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/topics"
	"github.com/milena-kafka/milena/replicator/wire"
)

// collector reads the state of a flow when it is scraped, so that a deleted partition leaves no series behind.
type collector struct {
	flow  *Flow
	descs map[string]*prometheus.Desc
}

func newCollector(f *Flow) *collector {
	c := &collector{flow: f, descs: make(map[string]*prometheus.Desc)}
	add := func(name, help string, labels ...string) {
		c.descs[name] = prometheus.NewDesc("milena_"+name, help, labels, nil)
	}
	partition := []string{"topic", "partition"}
	add("lag_records", "Readable records on the source that the target has not acknowledged.", partition...)
	add("lag_bytes", "Estimated lag in bytes: lag in records times their mean size lately.", partition...)
	add("lag_seconds", "Age of the newest acknowledged record while there is lag, else 0.", partition...)
	add("source_end_offset", "End of the readable log on the source, exclusive.", partition...)
	add("acked_offset", "Source offset below which everything is on the target, exclusive.", partition...)
	add("journaled_offset", "Source offset below which the journal describes the copy, exclusive.", partition...)
	add("target_end_offset", "Target offset behind the last acknowledged record, exclusive.", partition...)
	add("last_progress_timestamp_seconds", "When the copy of a partition last progressed.", partition...)
	add("partition_waiting", "1 for each partition that should be copied and waits, with what it waits for.", "topic", "partition", "reason")
	add("partition_paused", "1 for each partition that somebody has paused.", partition...)
	add("open_transaction_records", "Records behind the source's last stable offset, which cannot be read until a transaction before them ends.", partition...)
	add("verified_offset", "Source offset below which the copy was verified in the background, exclusive.", partition...)
	add("verified_timestamp_seconds", "When a pass of the verification in the background last reached the end of a partition.", partition...)
	add("differing_partitions", "Partitions that were verified in the background and whose copies differ from the source.")
	add("topic_lag_records", "Sum of lag_records over the partitions of a topic whose lag is known.", "topic")
	add("topic_lag_bytes", "Sum of lag_bytes over the partitions of a topic whose lag is known.", "topic")
	add("topic_lag_seconds", "The largest lag_seconds of the partitions of a topic.", "topic")
	add("topic_time_to_loss_seconds", "Time until the source deletes records of a topic that are not copied, once half of its retention.ms has passed.", "topic")
	add("flow_lag_records", "Sum of lag_records over the partitions whose lag is known.")
	add("flow_lag_bytes", "Sum of lag_bytes over the partitions whose lag is known.")
	add("rpo_records", "Records that the target lacks at most, as far as the source was seen.")
	add("rpo_seconds", "Time since which the copy is not complete, 0 at best: what a failover would lose.")
	add("rpo_unknown_partitions", "Partitions that should be copied and that were never complete, or of which that is not known.")
	add("rpo_objective_seconds", "The objective of the config for rpo_seconds.")
	add("rto_objective_seconds", "The objective of the config for how long a failover takes.")
	add("brokers_without_controller", "Brokers that lead partitions or copies and do not reach the active controller of their cluster.", "cluster")
	add("lag_unknown_partitions", "Partitions that should be copied and whose lag is not known.")
	add("partitions", "Partitions by state.", "state")
	add("shards", "Shards by state.", "state")
	add("topics_not_copied", "Selected topics that are not copied, or not completely. The status has the reasons.")
	add("groups", "Consumer groups of the source whose offsets are translated.")
	add("group_positions", "Committed offsets of those groups in copied partitions.")
	add("group_positions_refused", "Committed offsets that were not written on the target, by reason.", "reason")
	add("group_lag_records", "Records of the copies that a group has yet to read on the target, from where milena put it.", "group")
	add("groups_last_pass_timestamp_seconds", "When the last sync of groups began.")
	add("configs_last_pass_timestamp_seconds", "When the last sync of topic configs began.")
	add("acls_last_pass_timestamp_seconds", "When the last sync of ACLs began.")
	add("last_successful_pass_timestamp_seconds", "When the last sync began that left no problem.", "pass")
	add("drill_last_timestamp_seconds", "When the last drill began.")
	add("drill_last_success_timestamp_seconds", "When the last drill began that was passed.")
	add("drill_passed", "1 if the last drill was passed.")
	add("drill_rpo_seconds", "The recovery point that the last drill measured.")
	add("drill_rto_seconds", "How long the steps of a failover took in the last drill.")
	add("buffer_bytes", "Bytes of batches held between source and target.")
	add("controllable", "1 when this instance can read what people decide about the flow, and answer.")
	add("ready", "1 when every shard is owned and recovered.")
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	f, now := c.flow, time.Now()
	gauge := func(name string, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, value, labels...)
	}
	s := newScrape(f, gauge)
	counted := s.collectPartitions(now)
	s.collectUnbegun()
	s.collectSums(now)
	s.collectSync("topics", f.synced.of("topics"))
	if f.isDoer() { // what an instance did before another one got shard 0 would stand still
		l := f.live()
		translated := l.groups.Status(l.heartbeats.Problems()...)
		collectGroups(translated, gauge)
		collectSyncs(translated, f.configs.Load(), l.acls.Status(), gauge)
		s.collectSync("configs", f.synced.of("configs"))
		s.collectSync("acls", f.synced.of("acls"))
		s.collectSync("groups", translated.LastPass)
		collectDrill(f.controls.lastDrill(), gauge)
	}
	shards := make(map[string]int)
	ready := 0.0
	if len(f.notReady(counted, shards, now)) == 0 {
		ready = 1
	}
	for state, n := range shards {
		gauge("shards", float64(n), state)
	}
	if of := f.verifying.status(); of != nil {
		gauge("differing_partitions", float64(of.Differing))
	}
	gauge("topics_not_copied", float64(len(f.notCopied())))
	gauge("buffer_bytes", float64(f.budget.held()))
	controllable := 0.0
	if f.controls.isControllable() {
		controllable = 1
	}
	gauge("controllable", controllable)
	gauge("ready", ready)
}

// setGauge sends the value of a gauge to the registry.
type setGauge func(name string, value float64, labels ...string)

// scrape sums up the partitions of one scrape. What the sums count does not depend on which partitions have series of their own.
type scrape struct {
	flow    *Flow
	gauge   setGauge
	series  string         // which partitions have series: the config key metrics.partitions
	states  map[string]int // partitions
	unknown int            // partitions with a lag that is not known
	topics  map[string]*lag
	total   lag
	losses  map[string]time.Duration // time to loss by topic
	rpo     offsets.Loss
}

func newScrape(f *Flow, gauge setGauge) *scrape {
	return &scrape{
		flow: f, gauge: gauge, series: f.live().series, topics: make(map[string]*lag), losses: make(map[string]time.Duration),
		states: map[string]int{waiting.String(): 0, recovering.String(): 0, replicating.String(): 0, halted.String(): 0, statePaused: 0},
	}
}

// partitionGauges are the values of a partition's series.
type partitionGauges struct {
	number                      int32
	state                       state
	name                        string // of the state
	seen                        bool
	wait                        *WaitState
	end, open                   int64
	acked, journaled, targetEnd int64
	copy                        copyID
	progressed                  time.Time
	lag                         lag
	left                        time.Duration // to loss
	atRisk                      bool
}

func (p *partition) gauges(firsts *firstRecords, now time.Time) partitionGauges {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := partitionGauges{
		number: p.number,
		state:  p.state, name: p.stateNameLocked(), seen: p.isSourceSeen(now), wait: p.waitState(), end: p.sourceEnd, open: p.sourceOpen,
		acked: p.acked, journaled: p.journaled, targetEnd: p.targetEnd, copy: p.copyLocked(), progressed: p.lastProgress, lag: p.lagLocked(now),
	}
	g.left, g.atRisk = p.timeToLossLocked(firsts, g.lag, now)
	return g
}

// isInStep reports whether nothing about the partition needs attention: it is copied, and nothing is known to be left to copy.
func (g *partitionGauges) isInStep() bool {
	return g.name == replicating.String() && g.wait == nil && g.lag.known && g.lag.records == 0 && g.open == 0
}

// collectPartitions sets the gauges of the partitions that are begun.
func (s *scrape) collectPartitions(now time.Time) census {
	c := newCensus()
	for _, p := range s.flow.partitions() {
		g := p.gauges(&s.flow.firsts, now)
		c.addState(p, g.state)
		if !g.seen {
			c.addUnseen(p)
		}
		s.states[g.name]++
		s.addLag(p.topic.source, g.lag)
		if b, ok := p.behind(); ok {
			s.rpo.Add(b)
		}
		if least, ok := s.losses[p.topic.source]; g.atRisk && (!ok || g.left < least) {
			s.losses[p.topic.source] = g.left
		}
		if s.series == config.SeriesAll || s.series == config.SeriesLagging && !g.isInStep() {
			s.collectPartition(p.topic.source, strconv.Itoa(int(p.number)), &g)
		}
	}
	s.unknown = c.unseen
	return c
}

// addLag adds the lag of a partition to that of its topic and of the flow.
func (s *scrape) addLag(topic string, l lag) {
	t := s.topics[topic]
	if t == nil {
		t = new(lag)
		s.topics[topic] = t
	}
	for _, sum := range []*lag{t, &s.total} {
		sum.known = sum.known || l.known
		sum.records += l.records
		sum.bytes += l.bytes
		sum.aged = sum.aged || l.aged
		sum.seconds = max(sum.seconds, l.seconds)
	}
}

func (s *scrape) collectPartition(topic, number string, g *partitionGauges) {
	if g.wait != nil {
		s.gauge("partition_waiting", 1, topic, number, string(g.wait.Reason))
	}
	if g.name == statePaused {
		s.gauge("partition_paused", 1, topic, number)
	}
	if g.end >= 0 {
		s.gauge("source_end_offset", float64(g.end), topic, number)
		if s.flow.isolation == wire.ReadCommitted {
			s.gauge("open_transaction_records", float64(g.open), topic, number)
		}
	}
	if g.lag.known {
		s.gauge("lag_records", float64(g.lag.records), topic, number)
		s.gauge("lag_bytes", float64(g.lag.bytes), topic, number)
	}
	if g.lag.aged {
		s.gauge("lag_seconds", g.lag.seconds, topic, number)
	}
	s.gauge("acked_offset", float64(g.acked), topic, number)
	s.gauge("journaled_offset", float64(g.journaled), topic, number)
	s.gauge("target_end_offset", float64(g.targetEnd), topic, number)
	if of := s.flow.verifying.of(offsets.TopicPartition{Topic: topic, Partition: g.number}, g.copy); of != nil {
		s.gauge("verified_offset", float64(of.Upto), topic, number)
		if !of.Whole.IsZero() {
			s.gauge("verified_timestamp_seconds", float64(of.Whole.UnixMilli())/1000, topic, number)
		}
	}
	if !g.progressed.IsZero() {
		s.gauge("last_progress_timestamp_seconds", float64(g.progressed.UnixMilli())/1000, topic, number)
	}
}

// collectUnbegun sets the gauges of the wanted partitions that are not begun.
func (s *scrape) collectUnbegun() {
	for tp, u := range s.flow.unbegunPartitions() {
		s.states[waiting.String()]++
		if !u.final {
			s.unknown++
		}
		if u.isWanting() {
			s.rpo.AddUnknown()
		}
		if s.series != config.SeriesNone {
			s.gauge("partition_waiting", 1, tp.Topic, strconv.Itoa(int(tp.Partition)), string(u.reason))
		}
	}
}

// collectSums sets the gauges of topics and of the flow.
func (s *scrape) collectSums(now time.Time) {
	for topic, l := range s.topics {
		if l.known {
			s.gauge("topic_lag_records", float64(l.records), topic)
			s.gauge("topic_lag_bytes", float64(l.bytes), topic)
		}
		if l.aged {
			s.gauge("topic_lag_seconds", l.seconds, topic)
		}
	}
	for topic, left := range s.losses {
		s.gauge("topic_time_to_loss_seconds", left.Seconds(), topic)
	}
	if s.total.known {
		s.gauge("flow_lag_records", float64(s.total.records))
		s.gauge("flow_lag_bytes", float64(s.total.bytes))
	}
	for state, n := range s.states {
		s.gauge("partitions", float64(n), state)
	}
	s.gauge("lag_unknown_partitions", float64(s.unknown))
	for _, w := range []*controllerWatch{&s.flow.sourceControllers, &s.flow.targetControllers} {
		lost, _ := w.lost()
		s.gauge("brokers_without_controller", float64(len(lost)), w.alias)
	}
	if s.rpo.Partitions > 0 {
		s.gauge("rpo_records", float64(s.rpo.MissingRecords))
	}
	if at := s.rpo.CompleteUpTo; !at.IsZero() {
		s.gauge("rpo_seconds", max(0, now.Sub(at).Seconds()))
	}
	s.gauge("rpo_unknown_partitions", float64(s.rpo.Unfinished()))
	for name, objective := range map[string]*time.Duration{"rpo_objective_seconds": s.flow.live().RPO, "rto_objective_seconds": s.flow.live().RTO} {
		if objective != nil {
			s.gauge(name, objective.Seconds())
		}
	}
}

// collectGroups sets the gauges of consumer groups.
func collectGroups(status *groups.Status, gauge setGauge) {
	gauge("groups", float64(status.Groups))
	gauge("group_positions", float64(status.Positions))
	refused := make(map[string]int)
	for _, r := range status.Refusals {
		refused[r.Reason] += r.Partitions
	}
	for reason, n := range refused {
		gauge("group_positions_refused", float64(n), reason)
	}
	for group, n := range status.LagRecords {
		gauge("group_lag_records", float64(n), group)
	}
}

// collectSync sets when the last sync of a kind began that left no problem.
func (s *scrape) collectSync(pass string, at time.Time) {
	if !at.IsZero() {
		s.gauge("last_successful_pass_timestamp_seconds", float64(at.UnixMilli())/1000, pass)
	}
}

// collectSyncs sets the times of the last syncs.
func collectSyncs(of *groups.Status, configs *topics.ConfigsStatus, acls *topics.ACLsStatus, gauge setGauge) {
	synced := func(name string, at time.Time) {
		if !at.IsZero() {
			gauge(name, float64(at.UnixMilli())/1000)
		}
	}
	synced("groups_last_pass_timestamp_seconds", of.LastPass)
	if configs != nil {
		synced("configs_last_pass_timestamp_seconds", configs.LastPass)
	}
	if acls != nil {
		synced("acls_last_pass_timestamp_seconds", acls.LastPass)
	}
}
