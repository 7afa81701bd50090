package replicator

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/replicator/groups"
	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// flowMetrics are the counters and histograms of one flow. The registerer adds the label flow to every series. Gauges are not here: the
// [collector] reads them when they are scraped, so they cost nothing in between.
type flowMetrics struct {
	batches         *prometheus.CounterVec // topic, lane, reason
	records         *prometheus.CounterVec // topic
	bytes           *prometheus.CounterVec // topic
	anomalies       *prometheus.CounterVec // topic, kind, action
	latency         prometheus.Histogram
	recordAge       prometheus.Histogram
	checkpoints     prometheus.Histogram
	requests        *prometheus.HistogramVec // cluster, request
	requestErrors   *prometheus.CounterVec   // cluster, request
	throttled       *prometheus.CounterVec   // cluster
	retries         *prometheus.CounterVec   // request
	produceErrors   *prometheus.CounterVec   // outcome
	doubts          prometheus.Counter
	takeovers       *prometheus.CounterVec // result
	takeoverSeconds prometheus.Histogram
	reconciled      prometheus.Counter
	migrated        prometheus.Counter
	journalWrites   *prometheus.CounterVec // result
	journalCorrupt  prometheus.Counter
	syncs           *prometheus.CounterVec // pass, result
	configChanges   prometheus.Counter
	aclChanges      *prometheus.CounterVec // change
	internalRecords *prometheus.CounterVec // cluster, topic
	internalErrors  *prometheus.CounterVec // cluster, topic
	groupCommits    prometheus.Counter
	groupRefusals   *prometheus.CounterVec // reason
}

func newFlowMetrics(r prometheus.Registerer) *flowMetrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "milena_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "milena_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &flowMetrics{
		batches:         counters("batches_total", "Source batches by route: forwarded unchanged, merged with others, rebuilt or dropped, with the reason.", "topic", "lane", "reason"),
		records:         counters("records_total", "Records acknowledged by the target.", "topic"),
		bytes:           counters("bytes_total", "Bytes of batches acknowledged by the target, compressed.", "topic"),
		anomalies:       counters("anomalies_total", "Anomalies by kind and action.", "topic", "kind", "action"),
		requestErrors:   counters("request_errors_total", "Fetch and produce requests without a response.", "cluster", "request"),
		throttled:       counters("throttled_seconds_total", "Throttle time that brokers imposed because of quotas.", "cluster"),
		retries:         counters("retries_total", "Fetch and produce requests without a response, after which milena retried or reconciled.", "request"),
		produceErrors:   counters("produce_errors_total", "Batches that the target did not acknowledge, by outcome.", "outcome"),
		doubts:          counter("doubts_total", "Partitions that needed a takeover because the outcome of a write was unknown."),
		takeovers:       counters("takeovers_total", "Takeovers of shards by result.", "result"),
		reconciled:      counter("reconciled_batches_total", "Batches of unknown outcome that were found in the target's log."),
		migrated:        counter("migrated_partitions_total", "Partitions that were migrated from MirrorMaker 2."),
		journalWrites:   counters("journal_writes_total", "Writes to the journal by result.", "result"),
		journalCorrupt:  counter("journal_unreadable_records_total", "Journal records that could not be read and were skipped."),
		syncs:           counters("passes_total", "Syncs of topics, configs, ACLs and groups by result.", "pass", "result"),
		configChanges:   counter("topic_config_changes_total", "Topic configs altered on the target."),
		aclChanges:      counters("acl_changes_total", "ACLs created and deleted on the target, and those that began to be refused there.", "change"),
		internalRecords: counters("internal_topic_records_total", "Heartbeats, checkpoints and offset-syncs written.", "cluster", "topic"),
		internalErrors:  counters("internal_topic_errors_total", "Writes of heartbeats, checkpoints and offset-syncs that failed and are retried.", "cluster", "topic"),
		groupCommits:    counter("group_commits_total", "Committed offsets of consumer groups written on the target."),
		groupRefusals:   counters("group_refusals_total", "Committed offsets of consumer groups that began to be refused, by reason.", "reason"),
	}
	ages := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milena_" + name, Help: help, Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600, 86400},
		})
		r.MustRegister(h)
		return h
	}
	m.latency = ages("latency_seconds", "Time from a batch's newest record timestamp to the target's acknowledgement.")
	m.recordAge = ages("record_age_seconds", "Age of a batch's newest record when it was read from the source.")
	m.checkpoints = ages("checkpoint_latency_seconds", "Time from reading a group's committed offset on the source to the acknowledgement of its checkpoint.")
	m.takeoverSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "milena_takeover_seconds", Help: "Duration of takeovers of shards.", Buckets: prometheus.ExponentialBuckets(.002, 2, 14),
	})
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "milena_request_seconds", Help: "Duration of fetch and produce requests. A fetch waits up to half a second for records.", Buckets: prometheus.ExponentialBuckets(.0005, 2, 16),
	}, []string{"cluster", "request"})
	r.MustRegister(m.takeoverSeconds, m.requests)
	return m
}

// observer returns a function that measures the fetch and produce requests to one cluster.
func (m *flowMetrics) observer(cluster string) func(request string, took time.Duration, err error) {
	fetch, produce := m.requests.WithLabelValues(cluster, "fetch"), m.requests.WithLabelValues(cluster, "produce")
	return func(request string, took time.Duration, err error) {
		if err != nil {
			m.requestErrors.WithLabelValues(cluster, request).Inc()
			return
		}
		if request == "fetch" {
			fetch.Observe(took.Seconds())
		} else {
			produce.Observe(took.Seconds())
		}
	}
}

// topicMetrics are the counters of one source topic. They are looked up once, not for each batch.
type topicMetrics struct {
	flow           *flowMetrics
	topic          string
	forwarded      prometheus.Counter
	merged         prometheus.Counter
	records, bytes prometheus.Counter
	totals         *totals
}

func (m *flowMetrics) forTopic(topic string, t *totals) *topicMetrics {
	return &topicMetrics{
		flow: m, topic: topic, totals: t,
		forwarded: m.batches.WithLabelValues(topic, recordbatch.RouteForward.String(), ""),
		merged:    m.batches.WithLabelValues(topic, "merge", ""),
		records:   m.records.WithLabelValues(topic), bytes: m.bytes.WithLabelValues(topic),
	}
}

// observeAge records the age of a batch when it was read. A batch without a timestamp (-1) has none.
func (m *flowMetrics) observeAge(maxTimestamp int64, now time.Time) {
	if maxTimestamp > 0 {
		m.recordAge.Observe(max(0, float64(now.UnixMilli()-maxTimestamp)/1000))
	}
}

// countRoute counts a source batch that is not forwarded.
func (t *topicMetrics) countRoute(route recordbatch.Route, reason recordbatch.Reason) {
	t.flow.batches.WithLabelValues(t.topic, route.String(), reason.String()).Inc()
}

// countAcked counts a batch that the target acknowledged.
func (t *topicMetrics) countAcked(b prepared, now time.Time) {
	t.records.Add(float64(b.count))
	t.bytes.Add(float64(b.size))
	t.totals.records.Add(int64(b.count))
	t.totals.bytes.Add(int64(b.size))
	if b.maxTimestamp > 0 {
		t.flow.latency.Observe(max(0, float64(now.UnixMilli()-b.maxTimestamp)/1000))
	}
}

// collector reads the status of a flow when it is scraped, so that a deleted partition leaves no series behind.
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
	add("open_transaction_records", "Records behind the source's last stable offset, which cannot be read until a transaction before them ends.", partition...)
	add("lag_unknown_partitions", "Partitions that should be copied and whose lag is not known.")
	add("partitions", "Partitions by state.", "state")
	add("shards", "Shards by state.", "state")
	add("topics_not_copied", "Selected topics that are not copied, or not completely. The status has the reasons.")
	add("groups", "Consumer groups of the source whose offsets are translated.")
	add("group_positions", "Committed offsets of those groups in copied partitions.")
	add("group_positions_refused", "Committed offsets that were not written on the target, by reason.", "reason")
	add("groups_last_pass_timestamp_seconds", "When the last sync of groups began.")
	add("configs_last_pass_timestamp_seconds", "When the last sync of topic configs began.")
	add("acls_last_pass_timestamp_seconds", "When the last sync of ACLs began.")
	add("buffer_bytes", "Bytes of batches held between source and target.")
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
	gauge := func(name string, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, value, labels...)
	}
	status := c.flow.Status()
	collectPartitions(status, gauge)
	collectGroups(status.Groups, gauge)
	collectSyncs(status, gauge)
	for state, n := range status.Shards {
		gauge("shards", float64(n), state)
	}
	gauge("lag_unknown_partitions", float64(status.LagUnknown))
	gauge("topics_not_copied", float64(len(status.NotCopied)))
	gauge("buffer_bytes", float64(c.flow.budget.held()))
	ready := 0.0
	if status.Ready {
		ready = 1
	}
	gauge("ready", ready)
}

// setGauge sends the value of a gauge to the registry.
type setGauge func(name string, value float64, labels ...string)

// collectPartitions sets the gauges of partitions.
func collectPartitions(status Status, gauge setGauge) {
	states := map[string]int{waiting.String(): 0, recovering.String(): 0, replicating.String(): 0, halted.String(): 0}
	for _, p := range status.Partitions {
		states[p.State]++
		number := strconv.Itoa(int(p.Partition))
		if p.Wait != nil {
			gauge("partition_waiting", 1, p.Topic, number, string(p.Wait.Reason))
		}
		if !p.Begun {
			continue
		}
		if p.SourceEnd != nil {
			gauge("source_end_offset", float64(*p.SourceEnd), p.Topic, number)
		}
		if p.LagRecords != nil {
			gauge("lag_records", float64(*p.LagRecords), p.Topic, number)
		}
		if p.LagBytes != nil {
			gauge("lag_bytes", float64(*p.LagBytes), p.Topic, number)
		}
		if p.LagSeconds != nil {
			gauge("lag_seconds", *p.LagSeconds, p.Topic, number)
		}
		if p.OpenTransactionRecords != nil {
			gauge("open_transaction_records", float64(*p.OpenTransactionRecords), p.Topic, number)
		}
		gauge("acked_offset", float64(p.Acked), p.Topic, number)
		gauge("journaled_offset", float64(p.Journaled), p.Topic, number)
		gauge("target_end_offset", float64(p.TargetEnd), p.Topic, number)
		if !p.LastProgress.IsZero() {
			gauge("last_progress_timestamp_seconds", float64(p.LastProgress.UnixMilli())/1000, p.Topic, number)
		}
	}
	for state, n := range states {
		gauge("partitions", float64(n), state)
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
}

// collectSyncs sets the times of the last syncs.
func collectSyncs(status Status, gauge setGauge) {
	synced := func(name string, at time.Time) {
		if !at.IsZero() {
			gauge(name, float64(at.UnixMilli())/1000)
		}
	}
	synced("groups_last_pass_timestamp_seconds", status.Groups.LastPass)
	if status.Configs != nil {
		synced("configs_last_pass_timestamp_seconds", status.Configs.LastPass)
	}
	if status.ACLs != nil {
		synced("acls_last_pass_timestamp_seconds", status.ACLs.LastPass)
	}
}
