package topics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/policy"
)

// aclsPerRequest bounds one CreateAcls or DeleteAcls: a controller handles a request in one go, with at most 10,000 records.
const aclsPerRequest = 500

// ACLsStatus is what the last look at the ACLs of topics did.
type ACLsStatus struct {
	// InStep is how many ACLs of the copies are as on the source.
	InStep int `json:"in_step"`
	// Created and Deleted are changes on the target, Refused are those that it did not accept.
	Created int `json:"created"`
	Deleted int `json:"deleted"`
	Refused int `json:"refused"`
	// LastPass is when the last look began, and Took its seconds.
	LastPass time.Time `json:"last_pass,omitzero"`
	Took     float64   `json:"took_seconds"`
	// Problems are sentences about ACLs that were refused or are not copied as they are, and why there are none at all.
	Problems []string `json:"problems,omitempty"`
}

// ACLs brings the ACLs of the copies to those of their sources; policy decides which. Only differences are sent. One pass after the other;
// only the report is shared.
type ACLs struct {
	topics  *Syncer
	flow    config.Flow
	log     *slog.Logger
	changed func(change string) // told of each binding that was created, deleted or begins to be refused
	Early   chan struct{}       // an early pass is wanted

	refused map[policy.ACL]bool // in the pass before
	said    string              // what the log said last about ACLs that cannot be copied

	mu     sync.Mutex
	report ACLsStatus
}

// NewACLs makes the sync of ACLs. Changed is called for each binding that was created, deleted or begins to be refused; it may be nil.
func NewACLs(t *Syncer, changed func(string)) *ACLs {
	return &ACLs{topics: t, flow: t.flow, log: t.log, changed: changed, Early: make(chan struct{}, 1)}
}

// noAuthorizerError says that a cluster has no ACLs: nothing is wrong, and there is nothing to do.
type noAuthorizerError struct{ cluster string }

func (e *noAuthorizerError) Error() string {
	return fmt.Sprintf("ACLs are not copied: cluster %s has no authorizer", e.cluster)
}

// SyncSoon asks for a pass.
func (a *ACLs) SyncSoon() {
	select {
	case a.Early <- struct{}{}:
	default:
	}
}

// Sync is one pass. It ends early when may says no: another instance does the work then.
func (a *ACLs) Sync(ctx context.Context, nameClashes map[string]bool, may func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	report := &ACLsStatus{LastPass: time.Now()}
	err := a.pass(ctx, nameClashes, may, report)
	report.Took = time.Since(report.LastPass).Seconds()
	if err != nil {
		report.Problems = append(report.Problems, err.Error())
	}
	err = a.say(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report = *report
	return err
}

// say logs what keeps ACLs from being copied, once for as long as it lasts. That a cluster has none is no error.
func (a *ACLs) say(err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	again := text == a.said
	a.said = text
	var off *noAuthorizerError
	switch none := errors.As(err, &off); {
	case none && !again:
		a.log.Info("no ACLs to copy", "why", text)
		return nil
	case none:
		return nil
	case err != nil && !again:
		a.log.Warn("ACLs are not copied", "err", err)
	}
	return err
}

func (a *ACLs) pass(ctx context.Context, nameClashes map[string]bool, may func() bool, report *ACLsStatus) error {
	source, err := Read(ctx, a.topics.source)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", a.flow.Source, err)
	}
	target, err := Read(ctx, a.topics.target)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", a.flow.Target, err)
	}
	diff, err := a.Compare(ctx, source, target, nameClashes)
	if err != nil {
		return err
	}
	report.InStep, report.Problems = diff.InStep, diff.Notes
	refused := map[policy.ACL]bool{}
	defer func() { a.refused = refused }()
	for _, step := range []struct {
		list []policy.ACL
		send func(context.Context, []policy.ACL) ([]error, error)
		done func(policy.ACL)
	}{{diff.Create, a.create, func(binding policy.ACL) {
		report.Created++
		a.tell("created")
		a.log.Info("ACL created, as on the source", "cluster", a.flow.Target, "acl", binding.String())
	}}, {diff.Delete, a.remove, func(binding policy.ACL) {
		report.Deleted++
		a.tell("deleted")
		a.log.Info("ACL deleted, as on the source", "cluster", a.flow.Target, "acl", binding.String())
	}}} {
		for part := range slices.Chunk(step.list, aclsPerRequest) {
			if !may() {
				return nil
			}
			results, err := step.send(ctx, part)
			if err != nil {
				return err
			}
			for i, err := range results {
				if err != nil {
					a.refuse(part[i], err, refused, report)
					continue
				}
				step.done(part[i])
			}
		}
	}
	report.InStep += report.Created
	return nil
}

// refuse notes a binding that the target refused. The others go on.
func (a *ACLs) refuse(binding policy.ACL, err error, refused map[policy.ACL]bool, report *ACLsStatus) {
	refused[binding] = true
	if report.Refused++; report.Refused <= MaxProblems {
		report.Problems = append(report.Problems, fmt.Sprintf("cluster %s refuses %s: %v", a.flow.Target, binding, err))
	}
	if !a.refused[binding] {
		a.tell("refused")
		a.log.Warn("ACL is refused", "cluster", a.flow.Target, "acl", binding.String(), "err", err)
	}
}

func (a *ACLs) tell(change string) {
	if a.changed != nil {
		a.changed(change)
	}
}

// Compare asks both clusters for the ACLs of their topics and finds the difference.
func (a *ACLs) Compare(ctx context.Context, source, target View, nameClashes map[string]bool) (policy.ACLDiff, error) {
	state := policy.ACLState{Copied: map[string]string{}, TargetTopics: slices.Collect(maps.Keys(target.ByName)), Remove: a.flow.ACLsDelete}
	pairs, _ := a.topics.Select(source, target)
	for _, p := range pairs {
		if !nameClashes[p.Source.Name] {
			state.Copied[p.Source.Name] = p.TargetName
		}
	}
	var sourceErr, targetErr error
	var strange int
	state.Source, strange, sourceErr = describeACLs(ctx, a.topics.source, a.flow.Source)
	state.Target, _, targetErr = describeACLs(ctx, a.topics.target, a.flow.Target)
	if err := cmp.Or(sourceErr, targetErr); err != nil {
		return policy.ACLDiff{}, err
	}
	diff := a.topics.Rules.DiffACLs(state)
	if strange > 0 {
		diff.Notes = append(diff.Notes, fmt.Sprintf("%d ACLs of cluster %s are left out: they are of a kind that milena does not know", strange, a.flow.Source))
	}
	return diff, nil
}

// describeACLs asks for all bindings of topics. Any broker answers, from its own copy of the metadata. Strange are those of a Kafka to come.
func describeACLs(ctx context.Context, client *kgo.Client, cluster string) (list []policy.ACL, strange int, err error) {
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	answer, err := client.Request(ctx, request)
	if err != nil {
		return nil, 0, fmt.Errorf("describe ACLs of cluster %s: %w", cluster, err)
	}
	response := answer.(*kmsg.DescribeACLsResponse)
	if err := aclError(cluster, "describe", response.ErrorCode, response.ErrorMessage); err != nil {
		return nil, 0, err
	}
	for _, r := range response.Resources {
		for _, b := range r.ACLs {
			binding := policy.ACL{
				Name: r.ResourceName, Prefixed: r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed,
				Principal: b.Principal, Host: b.Host, Operation: b.Operation.String(), Deny: b.PermissionType == kmsg.ACLPermissionTypeDeny,
			}
			_, err := kmsg.ParseACLOperation(binding.Operation)
			pattern := binding.Prefixed || r.ResourcePatternType == kmsg.ACLResourcePatternTypeLiteral
			permission := binding.Deny || b.PermissionType == kmsg.ACLPermissionTypeAllow
			if err != nil || !pattern || !permission {
				strange++
				continue
			}
			list = append(list, binding)
		}
	}
	return list, strange, nil
}

// aclError is nil, or a sentence with the right that is needed.
func aclError(cluster, operation string, code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	right := map[string]string{"describe": "DESCRIBE", "create": "ALTER", "delete": "ALTER"}[operation]
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.SecurityDisabled):
		return &noAuthorizerError{cluster}
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("%s ACLs on cluster %s: not allowed; grant %s on the cluster to milena's user, or turn acls off: %w", operation, cluster, right, err)
	case message != nil && strings.TrimSpace(*message) != "":
		return fmt.Errorf("%s: %w", strings.TrimSpace(*message), err)
	}
	return err
}

// aclFailure tells what concerns all bindings of a request from what concerns one.
func aclFailure(results []error) error {
	var off *noAuthorizerError
	for _, err := range results {
		if errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.As(err, &off) {
			return err
		}
	}
	return nil
}

// create makes bindings and answers what came of each.
func (a *ACLs) create(ctx context.Context, list []policy.ACL) ([]error, error) {
	request := kmsg.NewPtrCreateACLsRequest()
	for _, binding := range list {
		c := kmsg.NewCreateACLsRequestCreation()
		pattern, operation, permission := kindsOf(binding)
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, binding.Name, pattern
		c.Principal, c.Host, c.Operation, c.PermissionType = binding.Principal, binding.Host, operation, permission
		request.Creations = append(request.Creations, c)
	}
	answer, err := a.topics.target.Request(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("create ACLs on cluster %s: %w", a.flow.Target, err)
	}
	var results []error
	for _, r := range answer.(*kmsg.CreateACLsResponse).Results {
		results = append(results, aclError(a.flow.Target, "create", r.ErrorCode, r.ErrorMessage))
	}
	return a.checked("create", list, results)
}

// remove deletes bindings, each by a filter that matches it alone, and answers what came of each.
func (a *ACLs) remove(ctx context.Context, list []policy.ACL) ([]error, error) {
	request := kmsg.NewPtrDeleteACLsRequest()
	for _, binding := range list {
		f := kmsg.NewDeleteACLsRequestFilter()
		pattern, operation, permission := kindsOf(binding)
		f.ResourceType, f.ResourceName, f.ResourcePatternType = kmsg.ACLResourceTypeTopic, &binding.Name, pattern
		f.Principal, f.Host, f.Operation, f.PermissionType = &binding.Principal, &binding.Host, operation, permission
		request.Filters = append(request.Filters, f)
	}
	answer, err := a.topics.target.Request(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("delete ACLs on cluster %s: %w", a.flow.Target, err)
	}
	var results []error
	for _, r := range answer.(*kmsg.DeleteACLsResponse).Results {
		results = append(results, aclError(a.flow.Target, "delete", r.ErrorCode, r.ErrorMessage))
	}
	return a.checked("delete", list, results)
}

// checked gives the results if there is one for each binding and none is about all of them.
func (a *ACLs) checked(operation string, list []policy.ACL, results []error) ([]error, error) {
	if len(results) != len(list) {
		return nil, fmt.Errorf("%s ACLs on cluster %s: %d results for %d ACLs", operation, a.flow.Target, len(results), len(list))
	}
	return results, aclFailure(results)
}

// kindsOf are the parts of a binding that Kafka has numbers for. Its operation came from a number, so it has one.
func kindsOf(binding policy.ACL) (kmsg.ACLResourcePatternType, kmsg.ACLOperation, kmsg.ACLPermissionType) {
	pattern, permission := kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLPermissionTypeAllow
	if binding.Prefixed {
		pattern = kmsg.ACLResourcePatternTypePrefixed
	}
	if binding.Deny {
		permission = kmsg.ACLPermissionTypeDeny
	}
	operation, _ := kmsg.ParseACLOperation(binding.Operation)
	return pattern, operation, permission
}

// Status is what the last pass found; nil when ACLs are not asked for.
func (a *ACLs) Status() *ACLsStatus {
	if !a.flow.ACLs {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	report := a.report
	return &report
}
