package replicator

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// wires simulates the connections to a broker: each carries a number of bytes per second, all together no more than the broker takes.
type wires struct {
	each, broker float64
	load         laneLoad
	now          time.Time
}

// second lets a second pass in which there is this much to send.
func (w *wires) second(s *spread, want float64) (changed bool) {
	carried := min(want, w.broker, w.each*float64(s.lanes))
	w.load.bytes += int64(carried)
	if carried < want {
		w.load.held += time.Second
	}
	w.now = w.now.Add(time.Second)
	return s.look(w.load, w.now)
}

// The number of lanes follows what they carry.
func TestPartitionsSpreadOverAsManyLanesAsCarryMore(t *testing.T) {
	const mb = 1e6
	for _, test := range []struct {
		name               string
		each, broker, want float64
		trip               time.Duration
		shared             bool
		lanes              int32
	}{
		{"one carries all", 100 * mb, 200 * mb, 50 * mb, 80 * time.Millisecond, true, 1},
		{"each carries little", 1 * mb, 200 * mb, 100 * mb, 80 * time.Millisecond, true, lanesOfGroup},
		{"four carry all", 10 * mb, 200 * mb, 35 * mb, 80 * time.Millisecond, true, 4},
		{"the broker takes no more than one carries", 50 * mb, 50 * mb, 100 * mb, 80 * time.Millisecond, true, 1},
		{"the broker takes no more than two carry", 50 * mb, 110 * mb, 200 * mb, 80 * time.Millisecond, true, 2},
		{"a short line", 1 * mb, 200 * mb, 100 * mb, time.Millisecond, true, 1},
		{"a single partition has data", 1 * mb, 200 * mb, 100 * mb, 80 * time.Millisecond, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := spreads{}.of(1)
			w := &wires{each: test.each, broker: test.broker, load: laneLoad{trip: test.trip, shared: test.shared}, now: time.Now()}
			for range 60 {
				w.second(s, test.want)
			}
			if s.lanes != test.lanes {
				t.Errorf("%d lanes, want %d", s.lanes, test.lanes)
			}
		})
	}
}

// A broker that has just started takes more every second, with as many lanes as before. Only a trial begun when that ends tells what more lanes carry.
func TestLanesOfABrokerThatWarmsUp(t *testing.T) {
	s := spreads{}.of(1)
	w := &wires{each: 1e9, broker: 5e6, load: laneLoad{trip: 80 * time.Millisecond, shared: true}, now: time.Now()}
	for second := range 60 {
		if second < 20 {
			w.broker *= 1.2
		}
		if w.second(s, 1e9); s.lanes > 2 || s.lanes > 1 && second < 20 {
			t.Fatalf("%d lanes after %d s", s.lanes, second)
		}
	}
	if s.lanes != 1 {
		t.Errorf("%d lanes in the end", s.lanes)
	}
}

// A trial that failed is repeated after a while only, and a calm line never tries.
func TestTrialsOfMoreLanesAreRare(t *testing.T) {
	s := spreads{}.of(1)
	w := &wires{each: 50e6, broker: 50e6, load: laneLoad{trip: 80 * time.Millisecond, shared: true}, now: time.Now()}
	trials := 0
	for range int(trialPause / time.Second * 3) {
		if before := s.lanes; w.second(s, 100e6) && s.lanes > before {
			trials++
		}
	}
	if trials != 3 {
		t.Errorf("%d trials in three pauses", trials)
	}
	for range 60 {
		if w.second(s, 1e6) {
			t.Error("the number of lanes changes although there is little to send")
		}
	}
}

// A broker that acknowledges nothing for a while gets no more lanes: nothing shows whether these carry more.
func TestNoTrialWhileNothingIsAcknowledged(t *testing.T) {
	s := spreads{}.of(1)
	w := &wires{each: 50e6, load: laneLoad{trip: 80 * time.Millisecond, shared: true}, now: time.Now()}
	for range 30 {
		w.second(s, 100e6)
	}
	if s.lanes != 1 {
		t.Errorf("%d lanes to a broker that hangs", s.lanes)
	}
}

// A loop with much to fetch gets much after few round trips, and leaves it to the others when there is nothing more.
func TestAppetiteFollowsTheResponses(t *testing.T) {
	const most = 8 << 20
	var a appetite
	trips := 0
	for ; a.of(leastShare, most) < most; trips++ {
		share := a.of(leastShare, most)
		a.fed(share, share)
	}
	if trips > 3 || !a.isLarge() {
		t.Errorf("%d round trips until %d bytes are requested", trips, a.of(leastShare, most))
	}
	a.fed(most/4, most)
	if share := a.of(leastShare, most); share != most {
		t.Errorf("%d bytes are requested after a response of a quarter of %d", share, most)
	}
	for range 10 {
		share := a.of(leastShare, most)
		a.fed(share/100, share)
	}
	if share := a.of(leastShare, most); share != leastShare || a.isLarge() {
		t.Errorf("%d bytes are requested after small responses", share)
	}
}

// Loops that have nothing to fetch leave at least three quarters of the budget to those that have.
func TestIdleLoopsLeaveTheBudgetToBusyOnes(t *testing.T) {
	f := testFlow(t)
	f.budget.limit = 32 << 20
	const idle = 500
	for number := range int32(idle) {
		f.topology.sourceBrokers[sourceLoop{broker: number}] = &sourceBroker{flow: f}
	}
	least, most := f.fetchShare(80 * time.Millisecond)
	if idle*least > f.budget.limit/4 {
		t.Errorf("%d idle loops reserve %d bytes each of %d", idle, least, f.budget.limit)
	}
	if most < f.budget.limit/4 {
		t.Errorf("a single busy loop may request %d bytes of %d", most, f.budget.limit)
	}
}

// Requests of loops that become busy one after the other, and whose brokers then hang, leave room for the others.
func TestRequestsThatHangLeaveRoom(t *testing.T) {
	f := testFlow(t)
	f.budget.limit = 64 << 20
	for number := range int32(16) {
		f.topology.sourceBrokers[sourceLoop{broker: 1 + number/8, number: number % 8}] = &sourceBroker{flow: f}
	}
	for number := range int32(8) {
		b := f.topology.sourceBrokers[sourceLoop{broker: 1, number: number}]
		b.appetite.fed(f.budget.limit, f.budget.limit)
		if _, err := b.reserve(t.Context(), 80*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if free := f.budget.free(); free < f.budget.limit/4 {
		t.Errorf("%d bytes of %d are left for the other broker", free, f.budget.limit)
	}
}

// Over a long line many shards are taken over at a time, because each takes several round trips.
func TestTakeoverSlotsFollowTheRoundTrip(t *testing.T) {
	for _, test := range []struct {
		took []time.Duration
		at   int64
	}{
		{nil, takeoverSlots},
		{[]time.Duration{80 * time.Millisecond, 82 * time.Millisecond}, farSlots},
		{[]time.Duration{80 * time.Millisecond, time.Millisecond, 80 * time.Millisecond}, takeoverSlots},
	} {
		takes := newTakeovers(64)
		for _, took := range test.took {
			takes.timed(took)
		}
		if got := farSlots / takes.slot(); got != test.at {
			t.Errorf("%d takeovers at a time after requests of %v, want %d", got, test.took, test.at)
		}
	}
}

// On a long line that carries little, a request is small and little is in flight, so that each is answered in time; what it carries is found out
// within a few round trips.
func TestWindowOfALongLineGrowsWithWhatItCarries(t *testing.T) {
	const trip = 80 * time.Millisecond
	for _, test := range []struct {
		name     string
		carries  float64 // bytes per second
		trips    int
		window   int64
		requests int
	}{
		{"80 KB/s", 80e3, 100, 2 * leastFarWindow, leastRequest},
		{"100 MB/s", 100e6, 20, 3 * 8 << 20, maxProduceBytes},
	} {
		t.Run(test.name, func(t *testing.T) {
			var w window
			type sent struct {
				flight
				due time.Time
			}
			var inFlight []sent
			now, free := time.Now(), time.Now()
			for end := now.Add(time.Duration(test.trips) * trip); now.Before(end); {
				for w.isOpen(trip) {
					size := int64(w.request(trip))
					if free.Before(now) {
						free = now
					}
					free = free.Add(time.Duration(float64(size) / test.carries * float64(time.Second)))
					inFlight = append(inFlight, sent{w.send(size, now), free.Add(trip)})
				}
				if w.inFlight > test.window {
					t.Fatalf("%d bytes are in flight, want at most %d", w.inFlight, test.window)
				}
				now = inFlight[0].due
				w.end(inFlight[0].flight, trip, now)
				inFlight = inFlight[1:]
			}
			if got := w.request(trip); got != test.requests {
				t.Errorf("a request has %d bytes, want %d", got, test.requests)
			}
			if rate := max(w.now, w.last); rate < test.carries/2 {
				t.Errorf("%.0f bytes per second are found, of %.0f", rate, test.carries)
			}
		})
	}
}

// A loop that has nothing to fetch any more leaves its part of the budget to others, also if its last response came after its partitions had moved.
func TestALoopWithoutPartitionsIsNotHungry(t *testing.T) {
	f := testFlow(t)
	b := &sourceBroker{flow: f, wake: make(chan struct{}, 1)}
	b.setPartitions(nil)
	<-b.wake
	b.appetite.fed(leastShare, leastShare)
	b.idle(t.Context(), time.Millisecond)
	if b.appetite.isLarge() {
		t.Errorf("a loop without partitions wants %d bytes", b.appetite.of(0, f.budget.limit))
	}
}

// What a broker never answered was not carried.
func TestFailedRequestsAreNotCarried(t *testing.T) {
	f := testFlow(t)
	b := &targetBroker{flow: f, account: &account{}, trip: func(int32) time.Duration { return 80 * time.Millisecond }, wake: make(chan struct{}, 1)}
	sent := b.window.send(1000, time.Now())
	b.finish(nil, sent, nil, errors.New("no answer"))
	if load := b.load(); load.bytes != 0 {
		t.Errorf("%d bytes were carried without an answer", load.bytes)
	}
	b.finish(nil, b.window.send(1000, time.Now()), kmsg.NewPtrProduceResponse(), nil)
	if load := b.load(); load.bytes != 1000 {
		t.Errorf("%d bytes were carried, want 1000", load.bytes)
	}
}
