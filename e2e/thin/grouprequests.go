package main

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// handle answers a request about groups, nil if it is about something else.
func (c *coordinator) handle(request kmsg.Request) kmsg.Response {
	switch request := request.(type) {
	case *kmsg.JoinGroupRequest:
		return c.join(request)
	case *kmsg.SyncGroupRequest:
		return c.sync(request)
	case *kmsg.HeartbeatRequest:
		return c.heartbeat(request)
	case *kmsg.LeaveGroupRequest:
		return c.leave(request)
	case *kmsg.DescribeGroupsRequest:
		return c.describe(request)
	case *kmsg.ListGroupsRequest:
		return c.list(request)
	case *kmsg.OffsetFetchRequest:
		return c.offsets(request)
	}
	return nil
}

// sync answers a member with its assignment, once the leader has sent it.
func (c *coordinator) sync(request *kmsg.SyncGroupRequest) kmsg.Response {
	answer := make(chan *kmsg.SyncGroupResponse, 1)
	c.mu.Lock()
	g := c.groups[request.Group]
	m, code := g.find(request.MemberID, request.InstanceID)
	switch {
	case code != 0:
	case request.Generation != g.generation:
		code = kerr.IllegalGeneration.Code
	case g.state == preparing:
		code = kerr.RebalanceInProgress.Code
	case g.state != stable && m.id == g.leader:
		assigned := make(map[string][]byte)
		for _, a := range request.GroupAssignment {
			assigned[a.MemberID] = a.MemberAssignment
		}
		g.state, m.syncing = stable, answer
		for id, other := range g.members {
			other.assignment = assigned[id]
			g.answerSync(other)
		}
	default:
		m.refuseSync(kerr.UnknownMemberID.Code) // a request that was given up
		m.syncing = answer
		if g.state == stable {
			g.answerSync(m)
		}
	}
	c.mu.Unlock()
	response := request.ResponseKind().(*kmsg.SyncGroupResponse)
	if response.ErrorCode = code; code != 0 {
		return response
	}
	response = <-answer
	response.SetVersion(request.GetVersion())
	return response
}

func (g *group) answerSync(m *member) {
	m.touch()
	if m.syncing != nil {
		response := kmsg.NewPtrSyncGroupResponse()
		response.ProtocolType, response.Protocol, response.MemberAssignment = &g.kind, &g.protocol, m.assignment
		m.syncing <- response
		m.syncing = nil
	}
}

func (c *coordinator) heartbeat(request *kmsg.HeartbeatRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.HeartbeatResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[request.Group]
	m, code := g.find(request.MemberID, request.InstanceID)
	switch {
	case code != 0:
	case request.Generation != g.generation:
		code = kerr.IllegalGeneration.Code
	default:
		m.touch()
		if g.state == preparing {
			code = kerr.RebalanceInProgress.Code
		}
	}
	response.ErrorCode = code
	return response
}

// leave removes members by their member id, or by their instance id alone.
func (c *coordinator) leave(request *kmsg.LeaveGroupRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.LeaveGroupResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[request.Group]
	if request.Version < 3 {
		request.Members = []kmsg.LeaveGroupRequestMember{{MemberID: request.MemberID}}
	}
	for _, left := range request.Members {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = left.MemberID, left.InstanceID
		id := left.MemberID
		if g != nil && id == "" && left.InstanceID != nil {
			id = g.static[*left.InstanceID]
		}
		m, code := g.find(id, left.InstanceID)
		if rm.ErrorCode = code; code == 0 {
			c.remove(g, m)
		}
		response.Members = append(response.Members, rm)
		if request.Version < 3 {
			response.ErrorCode = code
		}
	}
	return response
}

// describe describes groups. While one rebalances, it does not tell what its members want and have.
func (c *coordinator) describe(request *kmsg.DescribeGroupsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.DescribeGroupsResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range request.Groups {
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group, rg.State = id, "Dead"
		if g := c.groups[id]; g != nil {
			rg.State, rg.ProtocolType = g.state, g.kind
			for _, id := range slices.Sorted(maps.Keys(g.members)) {
				m := g.members[id]
				rm := kmsg.NewDescribeGroupsResponseGroupMember()
				rm.MemberID, rm.InstanceID, rm.ClientHost = id, m.instance, "/127.0.0.1"
				if g.state == stable {
					rg.Protocol = g.protocol
					rm.ProtocolMetadata, rm.MemberAssignment = m.metadata(g.protocol), m.assignment
				}
				rg.Members = append(rg.Members, rm)
			}
		}
		response.Groups = append(response.Groups, rg)
	}
	return response
}

func (c *coordinator) list(request *kmsg.ListGroupsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ListGroupsResponse)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType, rg.GroupState = id, c.groups[id].kind, c.groups[id].state
		response.Groups = append(response.Groups, rg)
	}
	return response
}

// offsets answers that a group has committed nothing.
func (*coordinator) offsets(request *kmsg.OffsetFetchRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.OffsetFetchResponse)
	for _, t := range request.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset = n, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	for _, g := range request.Groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group = g.Group
		for _, t := range g.Topics {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = t.Topic
			for _, n := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				rp.Partition, rp.Offset = n, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			rg.Topics = append(rg.Topics, rt)
		}
		response.Groups = append(response.Groups, rg)
	}
	return response
}
