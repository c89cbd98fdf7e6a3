package cashier

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"scn.alt/scn/routing/identity"
)

func (s *Server) inspection(r *http.Request) (any, error) {
	out, err := s.ledger.Inspection(r.Context())
	return s.sealed(typeInspection, out, err)
}

func (s *Server) inspectionEpoch(r *http.Request) (any, error) {
	epoch, after, err := epochAsked(r)
	if err != nil {
		return nil, err
	}
	out, err := s.ledger.epochPage(r.Context(), epoch, after)
	return s.sealed(typeEpoch, out, err)
}

func (s *Server) reports(r *http.Request) (any, error) {
	epoch, after, err := epochAsked(r)
	if err != nil {
		return nil, err
	}
	out, err := s.ledger.reportsPage(r.Context(), epoch, after)
	return s.sealed(typeReports, out, err)
}

func (s *Server) inspector(r *http.Request) (any, error) {
	account, err := identity.ParseAccountID(r.PathValue("id"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	out, err := s.ledger.Inspector(r.Context(), account)
	return s.sealed(typeInspector, out, err)
}

func (s *Server) scores(r *http.Request) (any, error) {
	service, err := identity.ParseServiceID(r.PathValue("service"))
	if err != nil {
		return nil, reject(Malformed, "%v", err)
	}
	var after identity.NodeID
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = identity.ParseNodeID(text); err != nil {
			return nil, reject(Malformed, "%v", err)
		}
	}
	out, err := s.ledger.scoresPage(r.Context(), service, after)
	return s.sealed(typeScores, out, err)
}

// sealed signs an answer unless there is none.
func (s *Server) sealed(typ string, v any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return sealAs(s.ledger.key, typ, v)
}

// epochAsked reads which epoch is asked for, and what the answer begins after.
func epochAsked(r *http.Request) (epoch uint64, after uint32, err error) {
	epoch, err = strconv.ParseUint(r.PathValue("epoch"), 10, 64)
	if text := r.URL.Query().Get("after"); text != "" && err == nil {
		var n uint64
		n, err = strconv.ParseUint(text, 10, 32)
		after = uint32(n)
	}
	if err != nil {
		return 0, 0, reject(Malformed, "%v", err)
	}
	return epoch, after, nil
}

// fetch fetches a signed answer into v, which check then looks at.
func (c *Client) fetch(ctx context.Context, typ, path string, v any, check func() error) error {
	return c.call(ctx, http.MethodGet, path, nil, maxReply, func(b []byte) error {
		if err := openAnswer(typ, b, c.cfg.Authorities, v); err != nil {
			return err
		}
		return check()
	})
}

// Inspection asks how inspection stands.
func (c *Client) Inspection(ctx context.Context) (Inspection, error) {
	var out Inspection
	err := c.fetch(ctx, typeInspection, pathInspection, &out, func() error {
		if out.Network != c.cfg.Network {
			return errors.New("inspection of another network")
		}
		return nil
	})
	return out, err
}

// InspectionEpoch asks what is known of an epoch. See Ledger.InspectionEpoch.
func (c *Client) InspectionEpoch(ctx context.Context, epoch uint64) (InspectionEpoch, error) {
	return wholeEpoch(func(chunk uint32) (out InspectionEpoch, err error) {
		path := fmt.Sprintf("%s%d?after=%d", pathEpochs, epoch, chunk)
		err = c.fetch(ctx, typeEpoch, path, &out, func() error {
			if out.Network != c.cfg.Network || out.Epoch != epoch || out.Count > maxProviders {
				return errors.New("epoch of another network, or another one")
			}
			return nil
		})
		return out, err
	})
}

// Inspector asks how an inspector stands.
func (c *Client) Inspector(ctx context.Context, account identity.AccountID) (InspectorState, error) {
	var out InspectorState
	err := c.fetch(ctx, typeInspector, pathInspectors+account.String(), &out, func() error {
		if out.Network != c.cfg.Network || out.Account != account {
			return errors.New("inspector of another network, or another one")
		}
		return nil
	})
	return out, err
}

// Scores asks how every provider of a service stands.
func (c *Client) Scores(ctx context.Context, service identity.ServiceID) ([]ProviderScore, error) {
	return allScores(func(after identity.NodeID) (out scoresReply, err error) {
		path := pathScores + service.String()
		if !after.IsZero() {
			path += "?after=" + url.QueryEscape(after.String())
		}
		err = c.fetch(ctx, typeScores, path, &out, func() error {
			if out.Network != c.cfg.Network || out.Service != service {
				return errors.New("scores of another network or service")
			}
			return nil
		})
		return out, err
	})
}

// Reports asks for the reports on an epoch.
func (c *Client) Reports(ctx context.Context, epoch uint64) ([]EpochReport, error) {
	return allReports(func(after uint32) (out reportsReply, err error) {
		path := fmt.Sprintf("%s%d/reports?after=%d", pathEpochs, epoch, after)
		err = c.fetch(ctx, typeReports, path, &out, func() error {
			if out.Network != c.cfg.Network || out.Epoch != epoch {
				return errors.New("reports of another network or epoch")
			}
			return nil
		})
		return out, err
	})
}
