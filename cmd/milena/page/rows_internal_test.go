package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator"
	"github.com/milena-kafka/milena/replicator/control"
	"github.com/milena-kafka/milena/replicator/groups"
)

// served is a page about statuses that do not change.
func served(t *testing.T, statuses ...replicator.Status) func(path string, into any) int {
	t.Helper()
	p := New(Options{Statuses: func() []replicator.Status { return statuses }})
	mux := http.NewServeMux()
	p.AddTo(mux)
	return func(path string, into any) int {
		t.Helper()
		r := httptest.NewRecorder()
		mux.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
		if err := json.Unmarshal(r.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %d, %v: %s", path, r.Code, err, r.Body)
		}
		return r.Code
	}
}

// mixed is a flow with partitions in several states, of which the lag is not always known.
func mixed() replicator.Status {
	s := replicator.Status{Flow: "a-b", Source: "a", Target: "b"}
	for i := range int32(12) {
		s.Partitions = append(s.Partitions, replicator.PartitionStatus{
			Topic: "clicks", TargetTopic: "a.clicks", Partition: i, State: "replicating", Begun: true, Acked: 100, LagRecords: ptr(int64(i % 4)), LagSeconds: ptr(0.0),
		})
	}
	halted := replicator.AnomalyState{Kind: "truncated", Detail: "lost", Hint: policy.Truncated.Hint(policy.Place{Topic: "orders", Partition: 1, Target: "a.orders"})}
	s.Partitions = append(
		s.Partitions,
		replicator.PartitionStatus{Topic: "orders", TargetTopic: "a.orders", State: "replicating", Begun: true, LagRecords: ptr(int64(70)), LagSeconds: ptr(90.0)},
		replicator.PartitionStatus{Topic: "orders", TargetTopic: "a.orders", Partition: 1, State: "halted", Begun: true, Anomaly: &halted},
		replicator.PartitionStatus{
			Topic: "orders", TargetTopic: "a.orders", Partition: 2, State: "waiting",
			Wait: &replicator.WaitState{Reason: replicator.WaitSourceNoLeader, Detail: "no broker of the source, cluster a, leads the partition"},
		},
	)
	return s
}

type partitions = Rows[PartitionRow]

func names(r partitions) (list []string) {
	for _, p := range r.Rows {
		list = append(list, fmt.Sprintf("%s-%d", p.Topic, p.Partition))
	}
	return list
}

// Partitions are searched by name and state, sorted by any column, and handed out in parts.
func TestPartitionRows(t *testing.T) {
	get := served(t, mixed())
	for query, want := range map[string]struct {
		total int
		first string // rows
	}{
		"":                                     {15, "clicks-0 clicks-1 clicks-2"},
		"sort=topic&desc=true":                 {15, "orders-2 orders-1 orders-0"},
		"sort=lag_records&desc=true":           {15, "orders-0 clicks-3 clicks-7"},
		"sort=lag_records":                     {15, "clicks-0 clicks-4 clicks-8"},
		"sort=state&desc=1":                    {15, "orders-1 orders-2 orders-0"},
		"search=ORDERS":                        {3, "orders-0 orders-1 orders-2"},
		"search=clicks-1":                      {3, "clicks-1 clicks-10 clicks-11"},
		"search=halted":                        {1, "orders-1"},
		"search=no_leader":                     {1, "orders-2"},
		"search=a.orders&offset=1":             {3, "orders-1 orders-2"},
		"offset=14":                            {15, "orders-2"},
		"offset=99":                            {15, ""},
		"limit=2":                              {15, "clicks-0 clicks-1"},
		"sort=lag_seconds&desc=true&limit=1":   {15, "orders-0"},
		"search=nothing of the kind":           {0, ""},
		"sort=partition&search=orders&limit=3": {3, "orders-0 orders-1 orders-2"},
	} {
		var r partitions
		if code := get("/api/v1/flows/a-b/partitions?"+strings.ReplaceAll(query, " ", "+"), &r); code != http.StatusOK || r.Total != want.total {
			t.Errorf("%s: %d, %d rows match, want %d", query, code, r.Total, want.total)
		}
		if got := strings.Join(names(r), " "); got != want.first && !strings.HasPrefix(got, want.first+" ") || want.first == "" && got != "" {
			t.Errorf("%s: %s, want %s", query, got, want.first)
		}
	}
	for _, desc := range []string{"true", "false"} {
		var r partitions
		get("/api/v1/flows/a-b/partitions?sort=lag_records&desc="+desc, &r)
		if got := names(r)[13:]; fmt.Sprint(got) != "[orders-1 orders-2]" {
			t.Errorf("desc=%s: unknown lags are not last: %v", desc, names(r))
		}
	}
}

// A row says what is known, null for what is not, and how a halted partition is mended.
func TestPartitionRow(t *testing.T) {
	other := mixed()
	other.Flow = "b-a"
	get := served(t, mixed(), other)
	var r struct {
		Rows []map[string]any `json:"rows"`
	}
	get("/api/v1/flows/a-b/partitions?search=orders", &r)
	behind, halted, waiting := r.Rows[0], r.Rows[1], r.Rows[2]
	if behind["state"] != "catching_up" || behind["lag_seconds"] != 90.0 || behind["attention"] != "1m30s behind the source" || behind["halted"] != nil {
		t.Errorf("%v", behind)
	}
	if halted["command"] != "milena skip -c FILE --flow a-b --partition orders-1 --reason TEXT" || halted["lag_records"] != nil || halted["note"] != "truncated" {
		t.Errorf("%v", halted)
	}
	if hint := fmt.Sprint(halted["halted"]); !strings.Contains(hint, "`milena restart-copy orders -c FILE --flow a-b --reason TEXT`") {
		t.Errorf("the hint does not name the flow, which is one of two: %s", hint)
	}
	if v, ok := waiting["acked"]; waiting["state"] != "waiting" || waiting["note"] != "source_no_leader" || v != nil || !ok {
		t.Errorf("%v", waiting)
	}
}

// Topics have the worst state of their partitions, and the sum of the lags that are known.
func TestTopicRows(t *testing.T) {
	get := served(t, mixed())
	var r struct {
		Total int              `json:"total"`
		Rows  []map[string]any `json:"rows"`
	}
	get("/api/v1/flows/a-b/topics?sort=attention&desc=true", &r)
	if r.Total != 2 || r.Rows[0]["topic"] != "orders" || r.Rows[0]["state"] != "halted" || r.Rows[0]["attention"] != 3.0 || r.Rows[0]["lag_records"] != 70.0 ||
		r.Rows[0]["lag_unknown"] != 2.0 || r.Rows[1]["state"] != "copying" || r.Rows[1]["lag_records"] != 18.0 {
		t.Errorf("%v", r)
	}
	get("/api/v1/flows/a-b/topics?search=click", &r)
	if r.Total != 1 || r.Rows[0]["partitions"] != 12.0 {
		t.Errorf("%v", r)
	}
}

// Groups are listed once, with what keeps them from the target. Where another instance syncs groups, that is said.
func TestGroupRows(t *testing.T) {
	s := mixed()
	get := served(t, s)
	var r Rows[GroupRow]
	if get("/api/v1/flows/a-b/groups", &r); r.Total != 0 || r.Rows == nil || !strings.Contains(r.Note, "another instance") {
		t.Errorf("%+v", r)
	}
	s.Groups = &groups.Status{
		Groups: 4, LastPass: time.Now(), LagRecords: map[string]int64{"audit": 0, "billing": 12},
		Refusals: []groups.Refusal{
			{Group: "billing", Reason: "metadata", Text: "group billing has too much metadata", Detail: "orders-1", Partitions: 2},
			{Group: "billing", Reason: "own", Text: "group billing consumes there", Detail: "orders-2", Partitions: 1},
			{Group: "zeta", Reason: "own", Text: "group zeta consumes there", Detail: "orders-0", Partitions: 1},
		},
		NotFollowed: []groups.NotFollowed{{Group: "queue", Text: "group queue is a share group"}},
	}
	get = served(t, s)
	if get("/api/v1/flows/a-b/groups?sort=refused&desc=true", &r); r.Total != 4 || r.Rows[0].Group != "billing" || r.Rows[0].Refused != 3 || *r.Rows[0].LagRecords != 12 ||
		*r.Rows[0].Reason != "group billing has too much metadata" || r.Rows[1].Group != "zeta" || r.Rows[1].LagRecords != nil {
		t.Errorf("%+v", r)
	}
	r.Note = ""
	if get("/api/v1/flows/a-b/groups?search=share", &r); r.Total != 1 || r.Rows[0].State != "not_followed" || r.Note == "" {
		t.Errorf("%+v", r)
	}
}

// What a request gets wrong is named, with what there is.
func TestWrongRowQueries(t *testing.T) {
	get := served(t, mixed())
	for path, want := range map[string]string{
		"a-b/partitions?sort=size":      `sort "size" is none of topic, acked, `,
		"a-b/topics?sort=shard":         `sort "shard" is none of topic, attention, `,
		"a-b/groups?order=group":        `no parameter "order"; there are search, sort, desc, offset and limit`,
		"a-b/partitions?limit=501":      `limit "501" is not a number from 1 to 500`,
		"a-b/partitions?limit=0":        `limit "0"`,
		"a-b/partitions?offset=-1":      `offset "-1"`,
		"a-b/partitions?offset=x":       `offset "x"`,
		"a-b/partitions?desc=downwards": `desc "downwards"`,
		"c-d/partitions":                `no flow "c-d"; its flows are: a-b`,
	} {
		var failure struct{ Error string }
		code := get("/api/v1/flows/"+path, &failure)
		if wantCode := http.StatusBadRequest; code != wantCode && !strings.HasPrefix(path, "c-d") || !strings.Contains(failure.Error, want) {
			t.Errorf("%s: %d %s, want %s", path, code, failure.Error, want)
		}
	}
}

// Of many partitions an answer has 500 rows at most, and the statuses are asked for once for all that ask within a second.
func TestRowsOfManyPartitions(t *testing.T) {
	s := replicator.Status{Flow: "a-b"}
	for i := range int32(10_000) {
		s.Partitions = append(s.Partitions, replicator.PartitionStatus{Topic: fmt.Sprintf("t%03d", i/100), Partition: i % 100, State: "replicating", Begun: true})
	}
	asked := 0
	p := New(Options{Statuses: func() []replicator.Status { asked++; return []replicator.Status{s} }})
	now := time.Now()
	for range 10 {
		p.latest.get(now, p.options.Statuses)
	}
	p.latest.get(now.Add(interval), p.options.Statuses)
	if asked != 2 {
		t.Errorf("asked %d times within a second and after it", asked)
	}
	var r partitions
	if get := served(t, s); get("/api/v1/flows/a-b/partitions?limit=500&offset=9900", &r) != http.StatusOK || r.Total != 10_000 || len(r.Rows) != 100 {
		t.Errorf("%d of %d rows", len(r.Rows), r.Total)
	}
	if get := served(t, s); get("/api/v1/flows/a-b/partitions?limit=500", &r) != http.StatusOK || len(r.Rows) != 500 {
		t.Errorf("%d of %d rows", len(r.Rows), r.Total)
	}
}

// The commands that end decisions are those that milena has.
func TestCommandsThatEndDecisions(t *testing.T) {
	for want, d := range map[string]replicator.DecisionStatus{
		"milena resume -c FILE":                                       {What: control.Pause, Scope: "the flow"},
		"milena resume -c FILE --topic orders":                        {What: control.Pause, Scope: control.OfTopic("orders").String()},
		"milena resume -c FILE --groups":                              {What: control.Pause, Scope: control.Scope{Kind: control.Groups}.String()},
		"milena throttle -c FILE --topic logs --rate 0 --reason TEXT": {What: control.Throttle, Scope: "topic logs"},
		"milena throttle -c FILE --rate 0 --reason TEXT":              {What: control.Throttle, Scope: "the flow"},
		"milena start -c FILE --reason TEXT":                          {What: control.StopFlow, Scope: "the flow"},
		"milena failback -c FILE --reason TEXT":                       {What: control.FailOver, Scope: "the flow"},
	} {
		if got := (commands{}).ending(&d); got == nil || *got != want {
			t.Errorf("%v of %s: %v, want %s", d.What, d.Scope, got, want)
		}
	}
	partition := replicator.DecisionStatus{What: control.Pause, Scope: "partition orders-3"}
	if got := (commands{flow: "a-b"}).ending(&partition); *got != "milena resume -c FILE --flow a-b --partition orders-3" {
		t.Error(*got)
	}
}
