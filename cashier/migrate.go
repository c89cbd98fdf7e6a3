package cashier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"scn.alt/scn/cashier/tree"
	"scn.alt/scn/routing/identity"
)

// formatVersion is the version of the store's layout. A change of the layout is
// the next number and a step in migrations.
//
//	1  names; m/genesis holds the parameters
//	2  money; m/genesis holds a Genesis, and the head its hash
//	3  the market: rows of channels and of all that came with the third rules; the
//	   log of blocks
const formatVersion = 3

// migrations take a store from the format of their index to the next one. A step
// is one batch, written together with the new format key: a power cut leaves the
// one format or the other, and a step begun again finds what it found before.
var migrations = [formatVersion]func(s *store, b *pebble.Batch) error{
	1: addGenesis,
	2: addMarketRules,
}

// migrate brings the store to the newest format.
func (s *store) migrate() error {
	for {
		format, err := readFormat(s.db)
		if err != nil || format == formatVersion {
			return err
		}
		b := s.db.NewBatch()
		err = errors.Join(
			migrations[format](s, b),
			b.Set(formatKey, appendUint64(nil, format+1), nil),
		)
		if err == nil {
			err = s.commit(b)
		}
		if err := errors.Join(err, b.Close()); err != nil {
			return fmt.Errorf("migrate from format %d: %w", format, err)
		}
	}
}

// readFormat returns the format of a store, which is one this program knows.
func readFormat(r reader) (uint64, error) {
	b, err := get(r, formatKey)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		// A store without its format key is damaged, not new: it was made complete.
		return 0, fmt.Errorf("%w: format key of %d bytes", ErrCorrupt, len(b))
	}
	switch v := binary.BigEndian.Uint64(b); {
	case v > formatVersion:
		return 0, fmt.Errorf("%w: format %d, this program knows %d", ErrFormat, v, formatVersion)
	case v == 0:
		return 0, fmt.Errorf("%w: format 0", ErrCorrupt)
	default:
		return v, nil
	}
}

// checkFormat refuses a store this program must not touch, without touching it:
// Pebble itself writes to a store it opens otherwise.
func checkFormat(path string, cfg Config) error {
	db, err := pebble.Open(path, storeOptions(cfg.fs, cfg.Logger, true))
	if err != nil {
		return err
	}
	_, err = readFormat(db)
	return errors.Join(err, db.Close())
}

// addGenesis is the step from format 1 to 2. The rules of money hold from the
// block after the newest; no row of the state changes.
func addGenesis(s *store, b *pebble.Batch) error {
	var h head
	if ok, err := s.readHead(s.db, &h); err != nil || !ok {
		return errors.Join(err, headUnless(ok))
	}
	var g Genesis
	raw, err := get(s.db, genesisKey)
	if err != nil {
		return err
	}
	if err := identity.Unmarshal(raw, &g.Parameters); err != nil {
		return fmt.Errorf("%w: genesis: %w", ErrCorrupt, err)
	}
	if h.Height == 0 {
		g.Rules = []RulesChange{{1, rulesMoney}}
	} else {
		g.Rules = []RulesChange{{1, rulesNames}, {h.Height + 1, rulesMoney}}
	}
	encoded := mustEncode(g)
	h.Genesis = genesisHash(encoded)
	return errors.Join(b.Set(genesisKey, encoded, nil), b.Set(headKey, mustEncode(h), nil))
}

// addMarketRules is the step from format 2 to 3. The third rules hold from the block
// after the newest; no row of the state changes, and the blocks there are were made,
// and are judged for ever, by the rules of their time.
func addMarketRules(s *store, b *pebble.Batch) error {
	var h head
	if ok, err := s.readHead(s.db, &h); err != nil || !ok {
		return errors.Join(err, headUnless(ok))
	}
	g, err := s.genesis()
	if err != nil {
		return err
	}
	next := h.Height + 1
	// Rules no block was made by yet are replaced: each height has one version.
	for len(g.Rules) > 0 && g.Rules[len(g.Rules)-1].From >= next {
		g.Rules = g.Rules[:len(g.Rules)-1]
	}
	g.Rules = append(g.Rules, RulesChange{next, rulesMarket})
	encoded := mustEncode(g)
	h.Genesis = genesisHash(encoded)
	if err := s.logBlocks(&h, b); err != nil {
		return err
	}
	return errors.Join(b.Set(genesisKey, encoded, nil), b.Set(headKey, mustEncode(h), nil))
}

// logBlocks makes the log of all blocks there are.
func (s *store) logBlocks(h *head, b *pebble.Batch) error {
	var log tree.Log
	for height := uint64(1); height <= h.Height; height++ {
		block, err := loadBlock(s.db, height)
		if err != nil {
			return err
		}
		hash := block.Header.Hash()
		var nodes []tree.LogNode
		log, nodes = log.Append(tree.LogLeaf(hash[:]))
		if err := setLog(b, nodes); err != nil {
			return err
		}
	}
	h.Log = ownHashes(log.Hashes())
	return nil
}

// genesis reads what the ledger began with.
func (s *store) genesis() (g Genesis, err error) {
	raw, err := get(s.db, genesisKey)
	if err != nil {
		return g, err
	}
	if err := identity.Unmarshal(raw, &g); err != nil {
		return g, fmt.Errorf("%w: genesis: %w", ErrCorrupt, err)
	}
	return g, schedule(g.Rules).validate()
}

func headUnless(ok bool) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%w: no head", ErrCorrupt)
}

// storeOptions are how the store is opened.
func storeOptions(fs vfs.FS, log *slog.Logger, readOnly bool) *pebble.Options {
	o := &pebble.Options{
		FS:                 orderedFS{fs},
		FormatMajorVersion: pebbleFormat,
		ReadOnly:           readOnly,
		// An authority may be a gateway with little memory. Pebble begins with small
		// tables in memory and doubles them up to this size where much is written.
		MemTableSize: 16 << 20,
		CacheSize:    8 << 20,
		MaxOpenFiles: 256,
		Logger:       storeLogger{log},
	}
	// A damaged table is an error for who reads it, not the end of the process.
	o.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
		log.Error("ledger store damaged", "file", info.Path, "err", info.Details)
	}}
	// Every new transfer asks for an ID nobody used: filters answer that.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}
