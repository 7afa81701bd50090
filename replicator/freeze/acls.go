package freeze

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/policy"
)

// aclsPerRequest limits a CreateAcls or DeleteAcls request: a controller handles a request at once, with at most 10,000 records.
const aclsPerRequest = 500

// describeACLs returns all bindings of topics, as one broker has them.
func describeACLs(ctx context.Context, of kmsg.Requestor) ([]policy.ACL, error) {
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	response, err := request.RequestWith(ctx, of)
	if err != nil {
		return nil, err
	}
	if err := codeError(response.ErrorCode, response.ErrorMessage); err != nil {
		return nil, err
	}
	var all []policy.ACL
	for _, r := range response.Resources {
		for _, b := range r.ACLs {
			all = append(all, policy.ACL{
				Name: r.ResourceName, Prefixed: r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed,
				Principal: b.Principal, Host: b.Host, Operation: b.Operation.String(), Deny: b.PermissionType == kmsg.ACLPermissionTypeDeny,
			})
		}
	}
	return all, nil
}

// codeError is the error of a response, with the message that the broker added.
func codeError(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil || message == nil || strings.TrimSpace(*message) == "" {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSpace(*message), err)
}

// created returns the bindings that Freeze creates, in requests. All of a topic are in one: a cluster takes them at once, and no reader is without
// its rights in between.
func (m Memory) created() (requests [][]policy.ACL) {
	var request []policy.ACL
	for _, t := range m.ACLs {
		for _, topic := range t.Topics {
			if len(request) > 0 && len(request)+len(t.Create) > aclsPerRequest {
				requests, request = append(requests, request), nil
			}
			for _, g := range t.Create {
				request = append(request, g.on(topic))
			}
		}
	}
	if len(request) > 0 {
		requests = append(requests, request)
	}
	return requests
}

// freezeACLs creates the bindings, waits until all brokers have them, and checks that the freeze holds.
func freezeACLs(ctx context.Context, cl *kgo.Client, m Memory) error {
	for _, list := range m.created() {
		if err := createACLs(ctx, cl, m.Cluster, list); err != nil {
			return err
		}
	}
	err := waitSpread(ctx, cl, m.Cluster, func(ctx context.Context, broker kmsg.Requestor) error {
		bindings, err := describeACLs(ctx, broker)
		if err != nil {
			return err
		}
		return m.broken("missing is", m.missing(bindings))
	})
	if err != nil {
		return err
	}
	return aclsHold(ctx, cl, m)
}

// missing are the bindings of the freeze that are not in force.
func (m Memory) missing(all []policy.ACL) (missing []string) {
	exists := make(map[policy.ACL]bool, len(all))
	for _, b := range all {
		exists[b] = true
	}
	for _, t := range m.ACLs {
		for _, topic := range t.Topics {
			for _, g := range slices.Concat(t.Create, t.Found) {
				if b := g.on(topic); !exists[b] {
					missing = append(missing, b.String())
				}
			}
		}
	}
	return missing
}

// aclsHold checks that all bindings are in force, that nobody may write besides them, and that milena may if it must.
func aclsHold(ctx context.Context, cl *kgo.Client, m Memory) error {
	bindings, err := describeACLs(ctx, cl)
	if err != nil {
		return fmt.Errorf("describe ACLs of cluster %s: %w", m.Cluster, err)
	}
	if err := m.broken("missing is", m.missing(bindings)); err != nil {
		return err
	}
	if err := m.broken("somebody allowed more since:", m.moreWriters(newAccess(bindings, m.Principals))); err != nil || !m.Writes {
		return err
	}
	rights, err := topicRights(ctx, cl, m.topics())
	if err != nil {
		return fmt.Errorf("read the rights of milena on cluster %s: %w", m.Cluster, err)
	}
	var lost []string
	for _, topic := range m.topics() {
		if r, ok := rights[topic]; ok && r&(1<<kmsg.ACLOperationWrite) == 0 {
			lost = append(lost, topic)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("milena may not write to %s of cluster %s: is its principal there really %s?", named(lost), m.Cluster, strings.Join(m.Principals, " or "))
	}
	return nil
}

// broken is the error that the freeze does not hold because of some items, nil without.
func (m Memory) broken(why string, items []string) error {
	if len(items) == 0 {
		return nil
	}
	return fmt.Errorf("the freeze of cluster %s does not hold: %s %s", m.Cluster, why, named(items))
}

func (m Memory) topics() (all []string) {
	for _, t := range m.ACLs {
		all = append(all, t.Topics...)
	}
	return all
}

// moreWriters says who may write although the freeze's bindings are in force.
func (m Memory) moreWriters(a *access) (more []string) {
	for _, t := range m.ACLs {
		denied := map[string]bool{}
		for _, g := range slices.Concat(t.Create, t.Found) {
			denied[g.Principal] = denied[g.Principal] || g.Deny
		}
		if denied[everyone] {
			continue
		}
		for _, topic := range t.Topics {
			for _, principal := range a.writers(topic) {
				if !denied[principal] {
					more = append(more, fmt.Sprintf("%s may write to topic %s", principal, topic))
				}
			}
		}
	}
	return more
}

// createACLs creates bindings. One that exists already is no error.
func createACLs(ctx context.Context, cl *kgo.Client, cluster string, list []policy.ACL) error {
	request := kmsg.NewPtrCreateACLsRequest()
	for _, b := range list {
		c := kmsg.NewCreateACLsRequestCreation()
		operation, permission := kindsOf(b)
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, b.Name, kmsg.ACLResourcePatternTypeLiteral
		c.Principal, c.Host, c.Operation, c.PermissionType = b.Principal, b.Host, operation, permission
		request.Creations = append(request.Creations, c)
	}
	response, err := request.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("create ACLs on cluster %s: %w", cluster, err)
	}
	if len(response.Results) != len(list) {
		return fmt.Errorf("create ACLs on cluster %s: %d results for %d ACLs", cluster, len(response.Results), len(list))
	}
	for i, r := range response.Results {
		if err := codeError(r.ErrorCode, r.ErrorMessage); err != nil {
			return fmt.Errorf("cluster %s refuses %s: %w", cluster, list[i], explain(err))
		}
	}
	return nil
}

// explain adds what to do about an error.
func explain(err error) error {
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return fmt.Errorf("grant ALTER on the cluster to milena's user: %w", err)
	}
	return err
}

// thawACLs deletes the bindings that Freeze created, as far as they are there.
func thawACLs(ctx context.Context, cl *kgo.Client, m Memory) (notes []string, err error) {
	var gone []string
	var errs []error
	total := 0
	for _, list := range m.created() {
		total += len(list)
		absent, err := deleteACLs(ctx, cl, m.Cluster, list)
		if gone = append(gone, absent...); err != nil {
			errs = append(errs, err)
		}
	}
	if len(gone) > 0 {
		notes = append(notes, fmt.Sprintf("%d of %s of the freeze of cluster %s were not there, because they were not created or somebody deleted them: %s", len(gone), counted(total, "ACL"), m.Cluster, named(gone)))
	}
	return notes, errors.Join(errs...)
}

// deleteACLs deletes bindings, each with a filter that matches only it, and returns those that were not there. A DENY goes before what allowed
// everything else.
func deleteACLs(ctx context.Context, cl *kgo.Client, cluster string, list []policy.ACL) (absent []string, err error) {
	list = slices.Clone(list)
	slices.Reverse(list)
	request := kmsg.NewPtrDeleteACLsRequest()
	for _, b := range list {
		f := kmsg.NewDeleteACLsRequestFilter()
		operation, permission := kindsOf(b)
		f.ResourceType, f.ResourceName, f.ResourcePatternType = kmsg.ACLResourceTypeTopic, &b.Name, kmsg.ACLResourcePatternTypeLiteral
		f.Principal, f.Host, f.Operation, f.PermissionType = &b.Principal, &b.Host, operation, permission
		request.Filters = append(request.Filters, f)
	}
	response, err := request.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("delete ACLs on cluster %s: %w", cluster, err)
	}
	if len(response.Results) != len(list) {
		return nil, fmt.Errorf("delete ACLs on cluster %s: %d results for %d ACLs", cluster, len(response.Results), len(list))
	}
	var errs []error
	for i, r := range response.Results {
		switch err := codeError(r.ErrorCode, r.ErrorMessage); {
		case err != nil:
			errs = append(errs, fmt.Errorf("cluster %s does not delete %s: %w", cluster, list[i], explain(err)))
		case len(r.MatchingACLs) == 0:
			absent = append(absent, list[i].String())
		}
	}
	if len(errs) > maxNamed {
		errs = append(errs[:maxNamed:maxNamed], fmt.Errorf("and %d more", len(errs)-maxNamed))
	}
	slices.Reverse(absent)
	return absent, errors.Join(errs...)
}

// kindsOf returns the parts of a binding that are numbers in Kafka.
func kindsOf(b policy.ACL) (kmsg.ACLOperation, kmsg.ACLPermissionType) {
	operation, _ := kmsg.ParseACLOperation(b.Operation) // one of Kafka's names
	if b.Deny {
		return operation, kmsg.ACLPermissionTypeDeny
	}
	return operation, kmsg.ACLPermissionTypeAllow
}
