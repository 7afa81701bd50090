package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// coordinator has the consumer groups of a cluster. It follows the rules of Kafka's coordinator of classic groups, for static members (KIP-345) as
// well as dynamic ones, with two differences: a dynamic member gets its id at once (no KIP-394), and offsets are never committed.
type coordinator struct {
	mu     sync.Mutex
	groups map[string]*group
}

const (
	// InitialDelay is how long the first join of an empty group is held back (group.initial.rebalance.delay.ms).
	initialDelay = 3 * time.Second
	// A session timeout outside of these is refused (group.min.session.timeout.ms, group.max.session.timeout.ms).
	minSession, maxSession = 6 * time.Second, 30 * time.Minute
)

// The states of a group.
const (
	empty      = "Empty"
	preparing  = "PreparingRebalance"  // waits for members to join
	completing = "CompletingRebalance" // waits for the leader's assignment
	stable     = "Stable"
)

// group is a consumer group.
type group struct {
	id         string
	state      string
	generation int32
	kind       string // protocol type
	protocol   string
	leader     string             // a member id
	members    map[string]*member // by member id
	static     map[string]string  // member ids by instance id
	created    int                // members so far, for their ids
	rebalance  *time.Timer        // ends the wait for members
	initial    bool               // that wait is the initial delay
}

// member is a member of a group.
type member struct {
	id         string
	instance   *string
	session    time.Duration
	rebalance  time.Duration
	protocols  []kmsg.JoinGroupRequestProtocol
	assignment []byte
	expiry     *time.Timer
	// Where a request of the member waits for its answer, nil if none does.
	joining chan *kmsg.JoinGroupResponse
	syncing chan *kmsg.SyncGroupResponse
}

func newCoordinator() *coordinator { return &coordinator{groups: make(map[string]*group)} }

// join answers a request to join, once the group has gathered.
func (c *coordinator) join(request *kmsg.JoinGroupRequest) kmsg.Response {
	c.mu.Lock()
	g := c.groups[request.Group]
	if g == nil {
		g = &group{id: request.Group, state: empty, members: make(map[string]*member), static: make(map[string]string)}
		c.groups[request.Group] = g
	}
	answer := c.joinGroup(g, request)
	c.mu.Unlock()
	response := <-answer
	response.SetVersion(request.GetVersion())
	return response
}

func (c *coordinator) joinGroup(g *group, request *kmsg.JoinGroupRequest) <-chan *kmsg.JoinGroupResponse {
	answer := make(chan *kmsg.JoinGroupResponse, 1)
	code := g.mayJoin(request)
	if code != 0 {
		answer <- refusedJoin(code, request.MemberID)
		return answer
	}
	m, isNew, replaced := g.members[request.MemberID], false, false
	if m == nil && request.InstanceID != nil {
		if m = g.members[g.static[*request.InstanceID]]; m != nil {
			replaced = true
			g.replace(m)
		}
	}
	if m == nil {
		isNew = true
		m = &member{id: g.newID(request.InstanceID), instance: request.InstanceID}
		g.members[m.id] = m
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
		m.expiry = time.AfterFunc(maxSession, func() { c.expire(g, m) })
	}
	same := sameProtocols(m.protocols, request.Protocols)
	m.session, m.rebalance = time.Duration(request.SessionTimeoutMillis)*time.Millisecond, time.Duration(request.RebalanceTimeoutMillis)*time.Millisecond
	m.protocols, g.kind = request.Protocols, request.ProtocolType
	m.touch()
	if m.joining != nil {
		m.joining <- refusedJoin(kerr.UnknownMemberID.Code, m.id) // of a request that was given up
	}
	m.joining = answer
	switch {
	case g.state == stable && (replaced || !isNew && same && m.id != g.leader), g.state == completing && !isNew && !replaced && same:
		g.answerJoin(m, replaced)
	case g.state != preparing:
		c.prepare(g)
	default:
		c.completeIfAll(g)
	}
	return answer
}

// mayJoin returns the code of the error for which a request to join is refused, 0 if there is none.
func (g *group) mayJoin(request *kmsg.JoinGroupRequest) int16 {
	session := time.Duration(request.SessionTimeoutMillis) * time.Millisecond
	if session < minSession || session > maxSession {
		return kerr.InvalidSessionTimeout.Code
	}
	if request.MemberID != "" {
		if _, code := g.find(request.MemberID, request.InstanceID); code != 0 {
			return code
		}
	}
	for _, m := range g.members {
		common := slices.ContainsFunc(m.protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
			return slices.ContainsFunc(request.Protocols, func(q kmsg.JoinGroupRequestProtocol) bool { return p.Name == q.Name })
		})
		if !common {
			return kerr.InconsistentGroupProtocol.Code
		}
	}
	return 0
}

// find returns the member of a request. An instance id that belongs to another member id by now is fenced.
func (g *group) find(id string, instance *string) (*member, int16) {
	if g == nil {
		return nil, kerr.UnknownMemberID.Code
	}
	if instance != nil {
		switch known, ok := g.static[*instance]; {
		case !ok:
			return nil, kerr.UnknownMemberID.Code
		case known != id:
			return nil, kerr.FencedInstanceID.Code
		}
	}
	if m := g.members[id]; m != nil {
		return m, 0
	}
	return nil, kerr.UnknownMemberID.Code
}

func (g *group) newID(instance *string) string {
	g.created++
	name := "member"
	if instance != nil {
		name = *instance
	}
	return fmt.Sprintf("%s-%d", name, g.created)
}

// replace gives a static member a new id, because its instance has started again. Requests with the old one are fenced.
func (g *group) replace(m *member) {
	m.refuse(kerr.FencedInstanceID.Code)
	delete(g.members, m.id)
	old := m.id
	m.id = g.newID(m.instance)
	g.members[m.id], g.static[*m.instance] = m, m.id
	if g.leader == old {
		g.leader = m.id
	}
}

// refuse answers the requests of the member that wait.
func (m *member) refuse(code int16) {
	if m.joining != nil {
		m.joining <- refusedJoin(code, m.id)
	}
	m.refuseSync(code)
	m.joining = nil
}

func (m *member) refuseSync(code int16) {
	if m.syncing != nil {
		response := kmsg.NewPtrSyncGroupResponse()
		response.ErrorCode = code
		m.syncing <- response
	}
	m.syncing = nil
}

func refusedJoin(code int16, id string) *kmsg.JoinGroupResponse {
	response := kmsg.NewPtrJoinGroupResponse()
	response.ErrorCode, response.MemberID, response.Generation = code, id, -1
	response.Protocol = kmsg.StringPtr("")
	return response
}

func sameProtocols(a, b []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(a, b, func(p, q kmsg.JoinGroupRequestProtocol) bool {
		return p.Name == q.Name && slices.Equal(p.Metadata, q.Metadata)
	})
}

func (m *member) touch() { m.expiry.Reset(m.session) }

// expire removes a member that was not heard of during its session timeout. One whose request waits is not expected to be heard of.
func (c *coordinator) expire(g *group, m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case g.members[m.id] != m:
	case m.joining != nil || m.syncing != nil:
		m.touch()
	default:
		c.remove(g, m)
	}
}

// remove removes a member. The coordinator's lock is held, here and below.
func (c *coordinator) remove(g *group, m *member) {
	m.expiry.Stop()
	m.refuse(kerr.UnknownMemberID.Code)
	delete(g.members, m.id)
	if m.instance != nil {
		delete(g.static, *m.instance)
	}
	if g.state == preparing {
		c.completeIfAll(g)
	} else {
		c.prepare(g)
	}
}

// prepare begins a rebalance: all members are to join again.
func (c *coordinator) prepare(g *group) {
	wait := time.Duration(0)
	for _, m := range g.members {
		m.refuseSync(kerr.RebalanceInProgress.Code)
		wait = max(wait, m.rebalance)
	}
	g.initial = g.state == empty
	if g.initial {
		wait = min(wait, initialDelay)
	}
	g.state = preparing
	c.await(g, wait)
	c.completeIfAll(g)
}

// await ends the wait for members after a time.
func (c *coordinator) await(g *group, wait time.Duration) {
	if g.rebalance != nil {
		g.rebalance.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if g.rebalance == timer && g.state == preparing {
			c.complete(g)
		}
	})
	g.rebalance = timer
}

// completeIfAll ends the wait for members if all have joined, unless it is the initial delay.
func (c *coordinator) completeIfAll(g *group) {
	for _, m := range g.members {
		if g.initial || m.joining == nil {
			return
		}
	}
	c.complete(g)
}

// complete begins the next generation with the members that have joined, and the static ones that have not.
func (c *coordinator) complete(g *group) {
	var joined []string
	for id, m := range g.members {
		switch {
		case m.joining != nil:
			joined = append(joined, id)
		case m.instance == nil:
			m.expiry.Stop()
			delete(g.members, id)
		}
	}
	if len(joined) == 0 && len(g.members) > 0 {
		c.await(g, time.Second) // until the sessions of the static ones end
		return
	}
	g.rebalance.Stop()
	g.initial = false
	g.generation++
	if len(g.members) == 0 {
		g.state, g.leader, g.protocol = empty, "", ""
		return
	}
	if !slices.Contains(joined, g.leader) {
		g.leader = slices.Min(joined)
	}
	g.state, g.protocol = completing, g.members[g.leader].protocols[0].Name
	for _, m := range g.members {
		m.touch()
		if m.joining != nil {
			g.answerJoin(m, false)
		}
	}
}

// answerJoin answers a member that has joined. A leader that was replaced keeps the assignment (KIP-814).
func (g *group) answerJoin(m *member, replaced bool) {
	response := kmsg.NewPtrJoinGroupResponse()
	response.Generation, response.ProtocolType, response.Protocol = g.generation, &g.kind, &g.protocol
	response.LeaderID, response.MemberID = g.leader, m.id
	if m.id == g.leader {
		response.SkipAssignment = replaced
		for _, id := range slices.Sorted(maps.Keys(g.members)) {
			other := g.members[id]
			rm := kmsg.NewJoinGroupResponseMember()
			rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = id, other.instance, other.metadata(g.protocol)
			response.Members = append(response.Members, rm)
		}
	}
	m.joining <- response
	m.joining = nil
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}
