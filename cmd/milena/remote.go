package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/milena-kafka/milena/replicator/control"
)

// addURL adds the flag that names a milena to ask.
func (c *controlFlags) addURL() {
	c.flags.StringVar(&c.remote.url, "url", "", "ask the milena at this `URL`, such as http://127.0.0.1:9644, with the token of "+tokenVariable+", instead of -c FILE; needs --flow")
	c.remote.addAccess(c.flags)
}

// checkURL checks the flags of a command that asks a milena.
func (c *controlFlags) checkURL(p *program) error {
	switch {
	case *c.config != "":
		return wrong(c.flags, "--url and -c cannot be combined")
	case c.flow == "":
		return wrong(c.flags, "--url needs --flow NAME")
	}
	return c.remote.open(c.flags, p.env)
}

// apiPaths are the paths of the verbs below that of a flow.
func apiPaths() map[control.Verb]string {
	return map[control.Verb]string{
		control.Pause: "pause", control.Resume: "resume", control.Throttle: "throttle", control.Retry: "retry", control.Skip: "skip",
		control.RestartCopy: "restart-copy", control.Adopt: "groups/adopt", control.StopFlow: "stop", control.StartFlow: "start",
	}
}

// askToCarryOut lets a milena carry out the order of the flags.
func (c *controlFlags) askToCarryOut(ctx context.Context, verb control.Verb) (a answer, err error) {
	body, err := json.Marshal(c.order)
	if err != nil {
		return a, err
	}
	err = c.ask(ctx, http.MethodPost, apiPaths()[verb], bytes.NewReader(body), &a)
	return a, err
}

// ask sends a request about the flow to a milena, and reads its answer.
func (c *controlFlags) ask(ctx context.Context, method, path string, body io.Reader, into any) error {
	answered, err := c.remote.send(ctx, method, "/api/v1/flows/"+url.PathEscape(c.flow)+"/"+path, body)
	switch {
	case err != nil:
		return fmt.Errorf("%w; check that milena is running and that --url is the address of its http.listen", err)
	case answered.code != http.StatusOK:
		return c.remote.failure(answered)
	}
	return json.Unmarshal(answered.body, into)
}
