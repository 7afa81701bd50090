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

// aclsPerRequest limits a CreateAcls or DeleteAcls request: a controller handles a request at once, with at most 10,000 records.
const aclsPerRequest = 500

// ACLsStatus is the result of the last sync of topic ACLs.
type ACLsStatus struct {
	// InStep is how many ACLs of remote topics are as on the source.
	InStep int `json:"in_step"`
	// Created and Deleted count the changes on the target, Refused those that the target did not accept.
	Created int `json:"created"`
	Deleted int `json:"deleted"`
	Refused int `json:"refused"`
	// LastPass is when the last sync began. Took is its duration in seconds.
	LastPass time.Time `json:"last_pass,omitzero"`
	Took     float64   `json:"took_seconds"`
	// Problems describe ACLs that were refused or are not copied unchanged, or why no ACLs are copied.
	Problems []string `json:"problems,omitempty"`
}

// ACLs makes the ACLs of remote topics equal to those of their source topics; package policy decides which. Only differences are sent. Sync
// must not run concurrently with itself; the other methods may run at any time.
type ACLs struct {
	topics  *Syncer
	flow    config.Flow
	log     *slog.Logger
	changed func(change string)
	soon    chan struct{} // a sync was requested

	refused map[policy.ACL]bool // in the previous sync
	logged  string              // the last logged reason why ACLs cannot be copied

	mu     sync.Mutex
	status ACLsStatus
}

// NewACLs creates the sync of ACLs. It calls changed, which may be nil, with "created", "deleted" or "refused" for each ACL that was created,
// was deleted, or is refused and was not before.
func NewACLs(t *Syncer, changed func(change string)) *ACLs {
	return &ACLs{topics: t, flow: t.flow, log: t.log, changed: changed, soon: make(chan struct{}, 1)}
}

// noAuthorizerError says that a cluster has no authorizer, so there are no ACLs to copy. It is not a failure.
type noAuthorizerError struct{ cluster string }

func (e *noAuthorizerError) Error() string {
	return fmt.Sprintf("ACLs are not copied: cluster %s has no authorizer", e.cluster)
}

// SyncSoon requests a sync. It does not block.
func (a *ACLs) SyncSoon() {
	select {
	case a.soon <- struct{}{}:
	default:
	}
}

// Requested receives a value after SyncSoon.
func (a *ACLs) Requested() <-chan struct{} { return a.soon }

// Sync does one sync, for at most a minute. The keys of nameClashes are source topics whose target topic is not their copy. Sync ends early,
// without an error, once active returns false because another instance has taken over.
func (a *ACLs) Sync(ctx context.Context, nameClashes map[string]bool, active func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	status := &ACLsStatus{LastPass: time.Now()}
	err := a.sync(ctx, nameClashes, active, status)
	status.Took = time.Since(status.LastPass).Seconds()
	if err != nil {
		status.Problems = append(status.Problems, err.Error())
	}
	err = a.logOnce(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = *status
	return err
}

// logOnce logs why ACLs cannot be copied, once for as long as it lasts. It returns nil if a cluster has no authorizer, else err.
func (a *ACLs) logOnce(err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	again := text == a.logged
	a.logged = text
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

func (a *ACLs) sync(ctx context.Context, nameClashes map[string]bool, active func() bool, status *ACLsStatus) error {
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
	status.InStep, status.Problems = diff.InStep, diff.Notes
	refused := map[policy.ACL]bool{}
	defer func() { a.refused = refused }()
	onRefused := func(binding policy.ACL, err error) {
		refused[binding] = true
		a.addRefused(binding, err, status)
	}
	if complete, err := sendACLs(ctx, diff.Create, active, a.create, func(binding policy.ACL) {
		status.Created++
		a.notify("created")
		a.log.Info("ACL created, as on the source", "cluster", a.flow.Target, "acl", binding.String())
	}, onRefused); err != nil || !complete {
		return err // nothing is deleted before all of its replacements are there
	}
	if complete, err := sendACLs(ctx, diff.Delete, active, a.remove, func(binding policy.ACL) {
		status.Deleted++
		a.notify("deleted")
		a.log.Info("ACL deleted, as on the source", "cluster", a.flow.Target, "acl", binding.String())
	}, onRefused); err != nil || !complete {
		return err
	}
	status.InStep += status.Created
	return nil
}

// sendACLs sends bindings in several requests while active returns true, and calls done or refused for each. Complete says that all were sent.
func sendACLs(ctx context.Context, list []policy.ACL, active func() bool, send func(context.Context, []policy.ACL) ([]error, error),
	done func(policy.ACL), refused func(policy.ACL, error),
) (complete bool, err error) {
	for part := range slices.Chunk(list, aclsPerRequest) {
		if !active() {
			return false, nil
		}
		results, err := send(ctx, part)
		if err != nil {
			return false, err
		}
		for i, err := range results {
			if err != nil {
				refused(part[i], err)
				continue
			}
			done(part[i])
		}
	}
	return true, nil
}

// addRefused adds a binding that the target refused to the status, and logs it unless it was refused in the previous sync.
func (a *ACLs) addRefused(binding policy.ACL, err error, status *ACLsStatus) {
	if status.Refused++; status.Refused <= MaxProblems {
		status.Problems = append(status.Problems, fmt.Sprintf("cluster %s refuses %s: %v", a.flow.Target, binding, err))
	}
	if !a.refused[binding] {
		a.notify("refused")
		a.log.Warn("ACL is refused", "cluster", a.flow.Target, "acl", binding.String(), "err", err)
	}
}

func (a *ACLs) notify(change string) {
	if a.changed != nil {
		a.changed(change)
	}
}

// Compare reads the topic ACLs of both clusters and returns the difference. The keys of nameClashes are source topics whose target topic
// is not their copy.
func (a *ACLs) Compare(ctx context.Context, source, target View, nameClashes map[string]bool) (policy.ACLDiff, error) {
	state := policy.ACLState{Copied: map[string]string{}, TargetTopics: slices.Collect(maps.Keys(target.ByName)), Remove: a.flow.ACLsDelete, Literal: a.flow.ACLsLiteral, Admin: a.flow.ACLsAdmin}
	pairs, _ := a.topics.Select(source, target)
	for _, p := range pairs {
		if !nameClashes[p.Source.Name] {
			state.Copied[p.Source.Name] = p.TargetName
		}
	}
	var sourceErr, targetErr error
	var unknown int
	state.Source, unknown, sourceErr = describeACLs(ctx, a.topics.source, a.flow.Source)
	state.Target, _, targetErr = describeACLs(ctx, a.topics.target, a.flow.Target)
	if err := cmp.Or(sourceErr, targetErr); err != nil {
		return policy.ACLDiff{}, err
	}
	diff := a.topics.Rules.DiffACLs(state)
	if unknown > 0 {
		diff.Notes = append(diff.Notes, fmt.Sprintf("%d ACLs of cluster %s are not copied: milena does not know their type", unknown, a.flow.Source))
	}
	return diff, nil
}

// describeACLs returns all bindings of topics, and how many more are of a type that milena does not know, from a newer Kafka. Any broker
// answers, from its own copy of the metadata.
func describeACLs(ctx context.Context, client *kgo.Client, cluster string) (list []policy.ACL, unknown int, err error) {
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
				unknown++
				continue
			}
			list = append(list, binding)
		}
	}
	return list, unknown, nil
}

// aclError returns nil for success, else an error that names the missing right, if any.
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

// aclFailure returns the first error that concerns all bindings of a request, not only one.
func aclFailure(results []error) error {
	var off *noAuthorizerError
	for _, err := range results {
		if errors.Is(err, kerr.ClusterAuthorizationFailed) || errors.As(err, &off) {
			return err
		}
	}
	return nil
}

// create creates bindings and returns the result of each.
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

// remove deletes bindings, each with a filter that matches only it, and returns the result of each.
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

// checked returns the results, or an error if their number is wrong or one of them concerns all bindings.
func (a *ACLs) checked(operation string, list []policy.ACL, results []error) ([]error, error) {
	if len(results) != len(list) {
		return nil, fmt.Errorf("%s ACLs on cluster %s: %d results for %d ACLs", operation, a.flow.Target, len(results), len(list))
	}
	return results, aclFailure(results)
}

// kindsOf returns the parts of a binding that are numbers in Kafka. The operation was read as a number, so it always parses.
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

// Status returns the result of the last sync, nil if the flow does not copy ACLs.
func (a *ACLs) Status() *ACLsStatus {
	if !a.flow.ACLs {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	status := a.status
	return &status
}
