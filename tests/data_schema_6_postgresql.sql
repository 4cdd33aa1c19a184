CREATE TYPE public.studydirection AS ENUM (
    'NOT_SET',
    'MINIMIZE',
    'MAXIMIZE'
);
CREATE TYPE public.trialintermediatevaluetype AS ENUM (
    'FINITE',
    'INF_POS',
    'INF_NEG',
    'NAN'
);
CREATE TYPE public.trialstate AS ENUM (
    'RUNNING',
    'COMPLETE',
    'PRUNED',
    'FAIL',
    'WAITING'
);
CREATE TYPE public.trialvaluetype AS ENUM (
    'FINITE',
    'INF_POS',
    'INF_NEG'
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.lrsearch_epochs (
    slot_id character varying(36) NOT NULL,
    epoch integer NOT NULL,
    study_id character varying(36) NOT NULL,
    step integer NOT NULL,
    lr double precision NOT NULL,
    train_loss double precision,
    val_loss double precision,
    val_accuracy double precision,
    averaged_val_loss double precision,
    averaged_val_accuracy double precision,
    val_score double precision,
    averaged_val_score double precision,
    rung_score double precision,
    comparable boolean NOT NULL,
    cut double precision,
    n_compared integer DEFAULT 0 NOT NULL,
    seconds double precision NOT NULL
);
CREATE TABLE public.lrsearch_interruptions (
    slot_id character varying(36) NOT NULL,
    attempt integer NOT NULL,
    study_id character varying(36) NOT NULL,
    reason character varying(32) NOT NULL,
    worker character varying(200) NOT NULL,
    device character varying(200) NOT NULL,
    epoch integer NOT NULL,
    step integer NOT NULL,
    message text NOT NULL,
    at timestamp without time zone NOT NULL
);
CREATE TABLE public.lrsearch_leases (
    slot_id character varying(36) NOT NULL,
    study_id character varying(36) NOT NULL,
    token character varying(36) NOT NULL,
    worker_id character varying(36) NOT NULL,
    expires_at timestamp without time zone NOT NULL
);
CREATE TABLE public.lrsearch_schema (
    id integer NOT NULL,
    version integer NOT NULL
);
CREATE SEQUENCE public.lrsearch_schema_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.lrsearch_schema_id_seq OWNED BY public.lrsearch_schema.id;
CREATE TABLE public.lrsearch_slots (
    id character varying(36) NOT NULL,
    study_id character varying(36) NOT NULL,
    "position" integer NOT NULL,
    state character varying(16) NOT NULL,
    number integer,
    origin character varying(16) NOT NULL,
    role character varying(16) DEFAULT 'search'::character varying NOT NULL,
    parent integer,
    seed integer,
    attempts integer NOT NULL,
    worker character varying(200) NOT NULL,
    device character varying(200) NOT NULL,
    versions character varying(200) NOT NULL,
    started_at timestamp without time zone,
    ended_at timestamp without time zone,
    outcome character varying(16),
    reason character varying(32),
    value double precision,
    epoch integer,
    step integer,
    lr double precision,
    message text,
    test_loss double precision,
    test_accuracy double precision,
    test_score double precision,
    test_right text,
    ended_token character varying(36),
    checkpoint character varying(200),
    checkpoint_step integer,
    weights character varying(200),
    weights_sha256 character varying(64)
);
CREATE TABLE public.lrsearch_studies (
    id character varying(36) NOT NULL,
    budget_trials integer,
    budget_hours double precision,
    max_failures integer NOT NULL,
    revision integer NOT NULL,
    created_at timestamp without time zone NOT NULL,
    stopped character varying(8),
    version character varying(40),
    artifacts text,
    facts text,
    optuna_id integer
);
CREATE TABLE public.lrsearch_workers (
    id character varying(36) NOT NULL,
    host character varying(200) NOT NULL,
    pid integer NOT NULL,
    process_space character varying(200) NOT NULL,
    machine character varying(200) NOT NULL,
    process_started double precision NOT NULL,
    device character varying(200) NOT NULL,
    versions character varying(200) NOT NULL,
    study_id character varying(36),
    expires_at timestamp without time zone NOT NULL
);
CREATE TABLE public.studies (
    study_id integer NOT NULL,
    study_name character varying(512) NOT NULL
);
CREATE SEQUENCE public.studies_study_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.studies_study_id_seq OWNED BY public.studies.study_id;
CREATE TABLE public.study_directions (
    study_direction_id integer NOT NULL,
    direction public.studydirection NOT NULL,
    study_id integer NOT NULL,
    objective integer NOT NULL
);
CREATE SEQUENCE public.study_directions_study_direction_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.study_directions_study_direction_id_seq OWNED BY public.study_directions.study_direction_id;
CREATE TABLE public.study_system_attributes (
    study_system_attribute_id integer NOT NULL,
    study_id integer,
    key character varying(512),
    value_json text
);
CREATE SEQUENCE public.study_system_attributes_study_system_attribute_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.study_system_attributes_study_system_attribute_id_seq OWNED BY public.study_system_attributes.study_system_attribute_id;
CREATE TABLE public.study_user_attributes (
    study_user_attribute_id integer NOT NULL,
    study_id integer,
    key character varying(512),
    value_json text
);
CREATE SEQUENCE public.study_user_attributes_study_user_attribute_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.study_user_attributes_study_user_attribute_id_seq OWNED BY public.study_user_attributes.study_user_attribute_id;
CREATE TABLE public.trial_heartbeats (
    trial_heartbeat_id integer NOT NULL,
    trial_id integer NOT NULL,
    heartbeat timestamp without time zone NOT NULL
);
CREATE SEQUENCE public.trial_heartbeats_trial_heartbeat_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_heartbeats_trial_heartbeat_id_seq OWNED BY public.trial_heartbeats.trial_heartbeat_id;
CREATE TABLE public.trial_intermediate_values (
    trial_intermediate_value_id integer NOT NULL,
    trial_id integer NOT NULL,
    step integer NOT NULL,
    intermediate_value double precision,
    intermediate_value_type public.trialintermediatevaluetype NOT NULL
);
CREATE SEQUENCE public.trial_intermediate_values_trial_intermediate_value_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_intermediate_values_trial_intermediate_value_id_seq OWNED BY public.trial_intermediate_values.trial_intermediate_value_id;
CREATE TABLE public.trial_params (
    param_id integer NOT NULL,
    trial_id integer,
    param_name character varying(512),
    param_value double precision,
    distribution_json text
);
CREATE SEQUENCE public.trial_params_param_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_params_param_id_seq OWNED BY public.trial_params.param_id;
CREATE TABLE public.trial_system_attributes (
    trial_system_attribute_id integer NOT NULL,
    trial_id integer,
    key character varying(512),
    value_json text
);
CREATE SEQUENCE public.trial_system_attributes_trial_system_attribute_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_system_attributes_trial_system_attribute_id_seq OWNED BY public.trial_system_attributes.trial_system_attribute_id;
CREATE TABLE public.trial_user_attributes (
    trial_user_attribute_id integer NOT NULL,
    trial_id integer,
    key character varying(512),
    value_json text
);
CREATE SEQUENCE public.trial_user_attributes_trial_user_attribute_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_user_attributes_trial_user_attribute_id_seq OWNED BY public.trial_user_attributes.trial_user_attribute_id;
CREATE TABLE public.trial_values (
    trial_value_id integer NOT NULL,
    trial_id integer NOT NULL,
    objective integer NOT NULL,
    value double precision,
    value_type public.trialvaluetype NOT NULL
);
CREATE SEQUENCE public.trial_values_trial_value_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trial_values_trial_value_id_seq OWNED BY public.trial_values.trial_value_id;
CREATE TABLE public.trials (
    trial_id integer NOT NULL,
    number integer,
    study_id integer,
    state public.trialstate NOT NULL,
    datetime_start timestamp without time zone,
    datetime_complete timestamp without time zone
);
CREATE SEQUENCE public.trials_trial_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.trials_trial_id_seq OWNED BY public.trials.trial_id;
CREATE TABLE public.version_info (
    version_info_id integer NOT NULL,
    schema_version integer,
    library_version character varying(256),
    CONSTRAINT version_info_version_info_id_check CHECK ((version_info_id = 1))
);
ALTER TABLE ONLY public.lrsearch_schema ALTER COLUMN id SET DEFAULT nextval('public.lrsearch_schema_id_seq'::regclass);
ALTER TABLE ONLY public.studies ALTER COLUMN study_id SET DEFAULT nextval('public.studies_study_id_seq'::regclass);
ALTER TABLE ONLY public.study_directions ALTER COLUMN study_direction_id SET DEFAULT nextval('public.study_directions_study_direction_id_seq'::regclass);
ALTER TABLE ONLY public.study_system_attributes ALTER COLUMN study_system_attribute_id SET DEFAULT nextval('public.study_system_attributes_study_system_attribute_id_seq'::regclass);
ALTER TABLE ONLY public.study_user_attributes ALTER COLUMN study_user_attribute_id SET DEFAULT nextval('public.study_user_attributes_study_user_attribute_id_seq'::regclass);
ALTER TABLE ONLY public.trial_heartbeats ALTER COLUMN trial_heartbeat_id SET DEFAULT nextval('public.trial_heartbeats_trial_heartbeat_id_seq'::regclass);
ALTER TABLE ONLY public.trial_intermediate_values ALTER COLUMN trial_intermediate_value_id SET DEFAULT nextval('public.trial_intermediate_values_trial_intermediate_value_id_seq'::regclass);
ALTER TABLE ONLY public.trial_params ALTER COLUMN param_id SET DEFAULT nextval('public.trial_params_param_id_seq'::regclass);
ALTER TABLE ONLY public.trial_system_attributes ALTER COLUMN trial_system_attribute_id SET DEFAULT nextval('public.trial_system_attributes_trial_system_attribute_id_seq'::regclass);
ALTER TABLE ONLY public.trial_user_attributes ALTER COLUMN trial_user_attribute_id SET DEFAULT nextval('public.trial_user_attributes_trial_user_attribute_id_seq'::regclass);
ALTER TABLE ONLY public.trial_values ALTER COLUMN trial_value_id SET DEFAULT nextval('public.trial_values_trial_value_id_seq'::regclass);
ALTER TABLE ONLY public.trials ALTER COLUMN trial_id SET DEFAULT nextval('public.trials_trial_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('v3.2.0.a');
INSERT INTO public.lrsearch_epochs VALUES ('6f326522-25c6-4cea-8e23-61585707dae4', 1, 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 3, 0.07502500000000001, 2.016290465990702, 1.5497063636779784, 0.5, 1.547862434387207, 0.625, NULL, NULL, 0.625, true, 0.625, 1, 0.017318175996479113);
INSERT INTO public.lrsearch_epochs VALUES ('6f326522-25c6-4cea-8e23-61585707dae4', 2, 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 6, 0.006792031080967287, 1.1132503350575764, 1.0279967308044433, 0.775, 1.0822492599487306, 0.7, NULL, NULL, 0.7, true, NULL, 0, 0.0032929330045590177);
INSERT INTO public.lrsearch_epochs VALUES ('ac1688c1-7f0c-476a-a6f8-62edec0ab8ad', 1, 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 3, 0.08176162870869114, 2.1715927124023438, 1.661271095275879, 0.55, 1.6928392410278321, 0.5, NULL, NULL, 0.5, true, 0.625, 2, 0.00789108299795771);
INSERT INTO public.lrsearch_epochs VALUES ('056526e7-ed59-416c-8835-acb137f14d2a', 1, 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 3, 2.5473943965393873e-05, 2.266685406366984, 2.228030967712402, 0.225, 2.2297185897827148, 0.225, NULL, NULL, 0.225, true, 0.625, 3, 0.007788893002725672);
INSERT INTO public.lrsearch_epochs VALUES ('612ad2d8-3105-4d62-82d9-ce4aad2489bc', 1, 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 3, 0.04813380277434983, 2.0964385668436685, 1.7007383346557616, 0.525, 1.7294261932373047, 0.55, NULL, NULL, 0.55, true, 0.625, 4, 0.00713880800321931);
INSERT INTO public.lrsearch_schema VALUES (1, 6);
INSERT INTO public.lrsearch_slots VALUES ('ac1688c1-7f0c-476a-a6f8-62edec0ab8ad', 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 1, 'ended', 1, 'sampler', 'search', NULL, 1, 1, 'vm:10146', 'cpu (1 thread)', 'lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed', '2026-11-29 01:41:33.969242', '2026-11-29 01:41:34.004693', 'pruned', 'rung', 0.5, 1, NULL, NULL, 'pruned at epoch 1: 0.5 below rung cut 0.625', NULL, NULL, NULL, NULL, '0faa2941-1082-440e-85cd-e24962aa1c9d', NULL, NULL, NULL, NULL);
INSERT INTO public.lrsearch_slots VALUES ('056526e7-ed59-416c-8835-acb137f14d2a', 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 2, 'ended', 2, 'sampler', 'search', NULL, 1, 1, 'vm:10146', 'cpu (1 thread)', 'lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed', '2026-11-29 01:41:34.035442', '2026-11-29 01:41:34.061425', 'pruned', 'rung', 0.225, 1, NULL, NULL, 'pruned at epoch 1: 0.225 below rung cut 0.625', NULL, NULL, NULL, NULL, '22883e3c-6962-4bf7-8a34-d782ea7651bc', NULL, NULL, NULL, NULL);
INSERT INTO public.lrsearch_slots VALUES ('612ad2d8-3105-4d62-82d9-ce4aad2489bc', 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 3, 'ended', 3, 'sampler', 'search', NULL, 1, 1, 'vm:10146', 'cpu (1 thread)', 'lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed', '2026-11-29 01:41:34.090915', '2026-11-29 01:41:34.125396', 'pruned', 'rung', 0.55, 1, NULL, NULL, 'pruned at epoch 1: 0.55 below rung cut 0.625', NULL, NULL, NULL, NULL, 'f7e86111-22e6-4af6-b479-00eae5939ef0', NULL, NULL, NULL, NULL);
INSERT INTO public.lrsearch_slots VALUES ('6f326522-25c6-4cea-8e23-61585707dae4', 'f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 0, 'ended', 0, 'portfolio', 'search', NULL, 1, 1, 'vm:10146', 'cpu (1 thread)', 'lrsearch 0.1.0, torch 2.14.1+cu130, python 3.11.7, denormals flushed', '2026-11-29 01:41:33.852095', '2026-11-29 01:41:33.919739', 'complete', 'finished', 0.775, 2, NULL, NULL, 'complete 0.775', 0.9678870455982395, 0.7314930991217063, NULL, '[76, 25, 33, 48, 83, 57, 80, 41, 67, 73]', '0cdd9280-b051-4bf2-bbaa-41823b047803', NULL, NULL, 'lrsearch-f894c4d9-1f7d-4404-8ae4-a6dcb979a86e-371efd55-a7ce-415d-92ff-67283c70abf0.safetensors', 'eff11c684c34069b76a0324cac9ce76455402786069c7edad8cba70ef9a951b5');
INSERT INTO public.lrsearch_studies VALUES ('f894c4d9-1f7d-4404-8ae4-a6dcb979a86e', 4, NULL, 5, 6, '2026-11-29 01:41:33.74235', NULL, '0.1.0', NULL, '{"n_train":160,"n_validation":40,"n_test":797,"shape":[1,28,28],"classes":["0","1","2","3","4","5","6","7","8","9"],"mean":[0.3065813200280112],"std":[0.32341829009375556],"validation_counts":[7,4,5,6,2,4,3,4,3,2],"test_counts":[78,82,80,82,87,64,81,92,75,76],"fingerprint":"4f1794691164034c24df4ce08475cadb33cc1bfc026a4e3806c832c17008f2be","train_counts":[16,14,11,15,18,19,17,12,23,15],"network":null,"steps":[],"arithmetic":null}', 1);
INSERT INTO public.studies VALUES (1, 'digits');
INSERT INTO public.study_directions VALUES (1, 'MAXIMIZE', 1, 0);
INSERT INTO public.study_system_attributes VALUES (1, 1, 'study:metric_names', '["validation accuracy"]');
INSERT INTO public.study_user_attributes VALUES (1, 1, 'lrsearch:spec', '"{\"budget\": {\"max_failures\": 5, \"trials\": 4}, \"dataset\": {\"limit\": 200, \"name\": \"digits\", \"split_seed\": 0, \"validation_fraction\": 0.2}, \"epochs\": 2, \"model\": {\"name\": \"mlp\"}, \"name\": \"digits\", \"objective\": {\"metric\": \"accuracy\"}, \"pruner\": {\"min_early_stopping_rate\": 0, \"name\": \"asha\", \"reduction_factor\": 3}, \"sampler\": {\"n_startup_trials\": 10, \"name\": \"tpe\", \"portfolio\": true}, \"seed\": 1, \"space\": {\"batch_size\": [16, 32, 64], \"final_fraction\": {\"high\": 0.1, \"log\": true, \"low\": 0.001}, \"optimizer\": {\"adamw\": {\"beta1\": 0.9, \"beta2\": 0.999, \"eps\": 1e-08, \"peak_lr\": {\"high\": 0.1, \"log\": true, \"low\": 1e-05}, \"weight_decay\": {\"high\": 1.0, \"log\": true, \"low\": 0.01}}, \"sgd\": {\"dampening\": 0.0, \"momentum\": 0.9, \"nesterov\": false, \"peak_lr\": {\"high\": 3.0, \"log\": true, \"low\": 0.001}, \"weight_decay\": {\"high\": 0.01, \"log\": true, \"low\": 0.0001}}}, \"schedule\": {\"constant\": {}, \"cosine\": {}, \"linear\": {}, \"one_cycle\": {\"initial_fraction\": 0.04, \"rise_fraction\": {\"high\": 0.45, \"low\": 0.1}}, \"step\": {\"drops\": {\"high\": 4, \"low\": 1}}, \"wsd\": {\"decay_fraction\": {\"high\": 0.5, \"low\": 0.1}}}, \"warmup_fraction\": {\"high\": 0.2, \"low\": 0.0}}, \"training\": {\"averaging\": \"auto\", \"divergence_watch\": true, \"drop_last\": false}, \"workers\": {\"checkpoint_seconds\": 60.0, \"lease_seconds\": 60.0, \"no_progress_seconds\": 600.0, \"retries\": {\"crash\": 1, \"lost\": 3, \"out_of_memory\": 1, \"stalled\": 1, \"timed_out\": 0}}}"');
INSERT INTO public.study_user_attributes VALUES (2, 1, 'lrsearch:id', '"f894c4d9-1f7d-4404-8ae4-a6dcb979a86e"');
INSERT INTO public.trial_intermediate_values VALUES (1, 1, 1, 0.625, 'FINITE');
INSERT INTO public.trial_intermediate_values VALUES (2, 1, 2, 0.7, 'FINITE');
INSERT INTO public.trial_intermediate_values VALUES (3, 2, 1, 0.5, 'FINITE');
INSERT INTO public.trial_intermediate_values VALUES (4, 3, 1, 0.225, 'FINITE');
INSERT INTO public.trial_intermediate_values VALUES (5, 4, 1, 0.55, 'FINITE');
INSERT INTO public.trial_params VALUES (1, 1, 'optimizer', 0, '{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO public.trial_params VALUES (2, 1, 'schedule', 3, '{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO public.trial_params VALUES (3, 1, 'batch_size', 2, '{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO public.trial_params VALUES (4, 1, 'warmup_fraction', 0.05, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO public.trial_params VALUES (5, 1, 'final_fraction', 0.001, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO public.trial_params VALUES (6, 1, 'peak_lr_sgd', 0.1, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO public.trial_params VALUES (7, 1, 'weight_decay_sgd', 0.0005, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO public.trial_params VALUES (8, 2, 'optimizer', 0, '{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO public.trial_params VALUES (9, 2, 'schedule', 4, '{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO public.trial_params VALUES (10, 2, 'batch_size', 2, '{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO public.trial_params VALUES (11, 2, 'final_fraction', 0.020040793663955555, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO public.trial_params VALUES (12, 2, 'peak_lr_sgd', 0.11147452405247346, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO public.trial_params VALUES (13, 2, 'weight_decay_sgd', 0.0010003928567194668, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO public.trial_params VALUES (14, 2, 'rise_fraction_one_cycle', 0.2316223512296173, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.45, "log": false}}');
INSERT INTO public.trial_params VALUES (15, 3, 'optimizer', 1, '{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO public.trial_params VALUES (16, 3, 'schedule', 0, '{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO public.trial_params VALUES (17, 3, 'batch_size', 2, '{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO public.trial_params VALUES (18, 3, 'warmup_fraction', 0.1632962671245386, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO public.trial_params VALUES (19, 3, 'peak_lr_adamw', 2.5473943965393873e-05, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO public.trial_params VALUES (20, 3, 'weight_decay_adamw', 0.5086710706872322, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO public.trial_params VALUES (21, 4, 'optimizer', 0, '{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO public.trial_params VALUES (22, 4, 'schedule', 2, '{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO public.trial_params VALUES (23, 4, 'batch_size', 2, '{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32, 64]}}');
INSERT INTO public.trial_params VALUES (24, 4, 'warmup_fraction', 0.14435007068737205, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO public.trial_params VALUES (25, 4, 'final_fraction', 0.0033328568274866763, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO public.trial_params VALUES (26, 4, 'peak_lr_sgd', 0.060117162993654154, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO public.trial_params VALUES (27, 4, 'weight_decay_sgd', 0.00038624218742857116, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO public.trial_system_attributes VALUES (1, 1, 'fixed_params', '{"optimizer": "sgd", "schedule": "cosine", "batch_size": 64, "warmup_fraction": 0.05, "final_fraction": 0.001, "peak_lr_sgd": 0.1, "weight_decay_sgd": 0.0005}');
INSERT INTO public.trial_user_attributes VALUES (1, 1, 'lrsearch:slot', '"6f326522-25c6-4cea-8e23-61585707dae4"');
INSERT INTO public.trial_user_attributes VALUES (2, 1, 'lrsearch:outcome', '"complete"');
INSERT INTO public.trial_user_attributes VALUES (3, 2, 'lrsearch:slot', '"ac1688c1-7f0c-476a-a6f8-62edec0ab8ad"');
INSERT INTO public.trial_user_attributes VALUES (4, 2, 'lrsearch:outcome', '"pruned"');
INSERT INTO public.trial_user_attributes VALUES (5, 3, 'lrsearch:slot', '"056526e7-ed59-416c-8835-acb137f14d2a"');
INSERT INTO public.trial_user_attributes VALUES (6, 3, 'lrsearch:outcome', '"pruned"');
INSERT INTO public.trial_user_attributes VALUES (7, 4, 'lrsearch:slot', '"612ad2d8-3105-4d62-82d9-ce4aad2489bc"');
INSERT INTO public.trial_user_attributes VALUES (8, 4, 'lrsearch:outcome', '"pruned"');
INSERT INTO public.trial_values VALUES (1, 1, 0, 0.775, 'FINITE');
INSERT INTO public.trial_values VALUES (2, 2, 0, 0.5, 'FINITE');
INSERT INTO public.trial_values VALUES (3, 3, 0, 0.225, 'FINITE');
INSERT INTO public.trial_values VALUES (4, 4, 0, 0.55, 'FINITE');
INSERT INTO public.trials VALUES (1, 0, 1, 'COMPLETE', '2026-11-29 01:41:33.841889', '2026-11-29 01:41:33.928974');
INSERT INTO public.trials VALUES (2, 1, 1, 'PRUNED', '2026-11-29 01:41:33.967782', '2026-11-29 01:41:34.00568');
INSERT INTO public.trials VALUES (3, 2, 1, 'PRUNED', '2026-11-29 01:41:34.034021', '2026-11-29 01:41:34.06237');
INSERT INTO public.trials VALUES (4, 3, 1, 'PRUNED', '2026-11-29 01:41:34.089648', '2026-11-29 01:41:34.12631');
INSERT INTO public.version_info VALUES (1, 12, '5.0.0');
SELECT pg_catalog.setval('public.lrsearch_schema_id_seq', 1, false);
SELECT pg_catalog.setval('public.studies_study_id_seq', 1, true);
SELECT pg_catalog.setval('public.study_directions_study_direction_id_seq', 1, true);
SELECT pg_catalog.setval('public.study_system_attributes_study_system_attribute_id_seq', 1, true);
SELECT pg_catalog.setval('public.study_user_attributes_study_user_attribute_id_seq', 2, true);
SELECT pg_catalog.setval('public.trial_heartbeats_trial_heartbeat_id_seq', 1, false);
SELECT pg_catalog.setval('public.trial_intermediate_values_trial_intermediate_value_id_seq', 5, true);
SELECT pg_catalog.setval('public.trial_params_param_id_seq', 27, true);
SELECT pg_catalog.setval('public.trial_system_attributes_trial_system_attribute_id_seq', 1, true);
SELECT pg_catalog.setval('public.trial_user_attributes_trial_user_attribute_id_seq', 8, true);
SELECT pg_catalog.setval('public.trial_values_trial_value_id_seq', 4, true);
SELECT pg_catalog.setval('public.trials_trial_id_seq', 4, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.lrsearch_epochs
    ADD CONSTRAINT lrsearch_epochs_pkey PRIMARY KEY (slot_id, epoch);
ALTER TABLE ONLY public.lrsearch_interruptions
    ADD CONSTRAINT lrsearch_interruptions_pkey PRIMARY KEY (slot_id, attempt);
ALTER TABLE ONLY public.lrsearch_leases
    ADD CONSTRAINT lrsearch_leases_pkey PRIMARY KEY (slot_id);
ALTER TABLE ONLY public.lrsearch_schema
    ADD CONSTRAINT lrsearch_schema_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lrsearch_slots
    ADD CONSTRAINT lrsearch_slots_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lrsearch_slots
    ADD CONSTRAINT lrsearch_slots_study_id_position_key UNIQUE (study_id, "position");
ALTER TABLE ONLY public.lrsearch_studies
    ADD CONSTRAINT lrsearch_studies_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lrsearch_workers
    ADD CONSTRAINT lrsearch_workers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.studies
    ADD CONSTRAINT studies_pkey PRIMARY KEY (study_id);
ALTER TABLE ONLY public.study_directions
    ADD CONSTRAINT study_directions_pkey PRIMARY KEY (study_direction_id);
ALTER TABLE ONLY public.study_directions
    ADD CONSTRAINT study_directions_study_id_objective_key UNIQUE (study_id, objective);
ALTER TABLE ONLY public.study_system_attributes
    ADD CONSTRAINT study_system_attributes_pkey PRIMARY KEY (study_system_attribute_id);
ALTER TABLE ONLY public.study_system_attributes
    ADD CONSTRAINT study_system_attributes_study_id_key_key UNIQUE (study_id, key);
ALTER TABLE ONLY public.study_user_attributes
    ADD CONSTRAINT study_user_attributes_pkey PRIMARY KEY (study_user_attribute_id);
ALTER TABLE ONLY public.study_user_attributes
    ADD CONSTRAINT study_user_attributes_study_id_key_key UNIQUE (study_id, key);
ALTER TABLE ONLY public.trial_heartbeats
    ADD CONSTRAINT trial_heartbeats_pkey PRIMARY KEY (trial_heartbeat_id);
ALTER TABLE ONLY public.trial_heartbeats
    ADD CONSTRAINT trial_heartbeats_trial_id_key UNIQUE (trial_id);
ALTER TABLE ONLY public.trial_intermediate_values
    ADD CONSTRAINT trial_intermediate_values_pkey PRIMARY KEY (trial_intermediate_value_id);
ALTER TABLE ONLY public.trial_intermediate_values
    ADD CONSTRAINT trial_intermediate_values_trial_id_step_key UNIQUE (trial_id, step);
ALTER TABLE ONLY public.trial_params
    ADD CONSTRAINT trial_params_pkey PRIMARY KEY (param_id);
ALTER TABLE ONLY public.trial_params
    ADD CONSTRAINT trial_params_trial_id_param_name_key UNIQUE (trial_id, param_name);
ALTER TABLE ONLY public.trial_system_attributes
    ADD CONSTRAINT trial_system_attributes_pkey PRIMARY KEY (trial_system_attribute_id);
ALTER TABLE ONLY public.trial_system_attributes
    ADD CONSTRAINT trial_system_attributes_trial_id_key_key UNIQUE (trial_id, key);
ALTER TABLE ONLY public.trial_user_attributes
    ADD CONSTRAINT trial_user_attributes_pkey PRIMARY KEY (trial_user_attribute_id);
ALTER TABLE ONLY public.trial_user_attributes
    ADD CONSTRAINT trial_user_attributes_trial_id_key_key UNIQUE (trial_id, key);
ALTER TABLE ONLY public.trial_values
    ADD CONSTRAINT trial_values_pkey PRIMARY KEY (trial_value_id);
ALTER TABLE ONLY public.trial_values
    ADD CONSTRAINT trial_values_trial_id_objective_key UNIQUE (trial_id, objective);
ALTER TABLE ONLY public.trials
    ADD CONSTRAINT trials_pkey PRIMARY KEY (trial_id);
ALTER TABLE ONLY public.version_info
    ADD CONSTRAINT version_info_pkey PRIMARY KEY (version_info_id);
CREATE INDEX ix_lrsearch_interruptions_study_id ON public.lrsearch_interruptions USING btree (study_id);
CREATE INDEX ix_lrsearch_leases_study_id ON public.lrsearch_leases USING btree (study_id);
CREATE UNIQUE INDEX ix_studies_study_name ON public.studies USING btree (study_name);
CREATE INDEX ix_trials_study_id ON public.trials USING btree (study_id);
CREATE INDEX lrsearch_epochs_of_rung ON public.lrsearch_epochs USING btree (study_id, epoch);
CREATE INDEX lrsearch_slots_by_outcome ON public.lrsearch_slots USING btree (study_id, state, outcome);
ALTER TABLE ONLY public.study_directions
    ADD CONSTRAINT study_directions_study_id_fkey FOREIGN KEY (study_id) REFERENCES public.studies(study_id);
ALTER TABLE ONLY public.study_system_attributes
    ADD CONSTRAINT study_system_attributes_study_id_fkey FOREIGN KEY (study_id) REFERENCES public.studies(study_id);
ALTER TABLE ONLY public.study_user_attributes
    ADD CONSTRAINT study_user_attributes_study_id_fkey FOREIGN KEY (study_id) REFERENCES public.studies(study_id);
ALTER TABLE ONLY public.trial_heartbeats
    ADD CONSTRAINT trial_heartbeats_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trial_intermediate_values
    ADD CONSTRAINT trial_intermediate_values_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trial_params
    ADD CONSTRAINT trial_params_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trial_system_attributes
    ADD CONSTRAINT trial_system_attributes_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trial_user_attributes
    ADD CONSTRAINT trial_user_attributes_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trial_values
    ADD CONSTRAINT trial_values_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES public.trials(trial_id);
ALTER TABLE ONLY public.trials
    ADD CONSTRAINT trials_study_id_fkey FOREIGN KEY (study_id) REFERENCES public.studies(study_id);
