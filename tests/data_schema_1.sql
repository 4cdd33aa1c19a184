BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE lrsearch_epochs (
	slot_id VARCHAR(36) NOT NULL,
	epoch INTEGER NOT NULL,
	study_id VARCHAR(36) NOT NULL,
	step INTEGER NOT NULL,
	lr FLOAT NOT NULL,
	train_loss FLOAT,
	val_loss FLOAT,
	val_accuracy FLOAT,
	averaged_val_loss FLOAT,
	averaged_val_accuracy FLOAT,
	rung_score FLOAT,
	comparable BOOLEAN NOT NULL,
	seconds FLOAT NOT NULL,
	PRIMARY KEY (slot_id, epoch)
);
INSERT INTO "lrsearch_epochs" VALUES('6c4592ed-e261-4345-94d8-d187ec71a6b4',1,'e960591d-5354-4e21-bc3a-f28a8ab578bf',10,0.1,5.28382860743829230187e-01,5.28382860743829230187e-01,4.716171392561707143e-01,NULL,NULL,4.716171392561707143e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('6c4592ed-e261-4345-94d8-d187ec71a6b4',2,'e960591d-5354-4e21-bc3a-f28a8ab578bf',20,0.1,2.92574291115743956304e-01,2.92574291115743956304e-01,0.707425708884256,NULL,NULL,0.707425708884256,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('6c4592ed-e261-4345-94d8-d187ec71a6b4',3,'e960591d-5354-4e21-bc3a-f28a8ab578bf',30,0.1,1.74670006301701263851e-01,1.74670006301701263851e-01,8.25329993698298736148e-01,NULL,NULL,8.25329993698298736148e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('6c4592ed-e261-4345-94d8-d187ec71a6b4',4,'e960591d-5354-4e21-bc3a-f28a8ab578bf',40,0.1,1.15717863894679862113e-01,1.15717863894679862113e-01,8.84282136105320137886e-01,NULL,NULL,8.84282136105320137886e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('99aa0e53-4335-4283-aa46-00ea6a49ea10',1,'e960591d-5354-4e21-bc3a-f28a8ab578bf',10,0.1,5.90187655157652479864e-01,5.90187655157652479864e-01,4.09812344842347520135e-01,NULL,NULL,4.09812344842347520135e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('99aa0e53-4335-4283-aa46-00ea6a49ea10',2,'e960591d-5354-4e21-bc3a-f28a8ab578bf',20,0.1,3.85281482736478775308e-01,3.85281482736478775308e-01,6.14718517263521224691e-01,NULL,NULL,6.14718517263521224691e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('99aa0e53-4335-4283-aa46-00ea6a49ea10',3,'e960591d-5354-4e21-bc3a-f28a8ab578bf',30,0.1,2.82828396525891867518e-01,2.82828396525891867518e-01,7.17171603474108132481e-01,NULL,NULL,7.17171603474108132481e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('99aa0e53-4335-4283-aa46-00ea6a49ea10',4,'e960591d-5354-4e21-bc3a-f28a8ab578bf',40,0.1,2.31601853420598358113e-01,2.31601853420598358113e-01,7.68398146579401641886e-01,NULL,NULL,7.68398146579401641886e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('0622ad70-fa7e-4f77-882f-c6aba00bdead',1,'e960591d-5354-4e21-bc3a-f28a8ab578bf',10,0.1,6.3019888407097512939e-01,6.3019888407097512939e-01,3.69801115929024815098e-01,NULL,NULL,3.69801115929024815098e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('0622ad70-fa7e-4f77-882f-c6aba00bdead',2,'e960591d-5354-4e21-bc3a-f28a8ab578bf',20,0.1,4.45298326106462805107e-01,4.45298326106462805107e-01,5.54701673893537194892e-01,NULL,NULL,5.54701673893537194892e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('0622ad70-fa7e-4f77-882f-c6aba00bdead',3,'e960591d-5354-4e21-bc3a-f28a8ab578bf',30,0.1,3.52848047124206587454e-01,3.52848047124206587454e-01,6.47151952875793412545e-01,NULL,NULL,6.47151952875793412545e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('0622ad70-fa7e-4f77-882f-c6aba00bdead',4,'e960591d-5354-4e21-bc3a-f28a8ab578bf',40,0.1,3.06622907633078423117e-01,3.06622907633078423117e-01,6.93377092366921576882e-01,NULL,NULL,6.93377092366921576882e-01,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('3cd85229-45ee-41d9-a667-5856d82fdccf',1,'48b78980-f54d-4e0d-aa75-f50351a3d053',10,0.1,1.0,1.0,0.6,NULL,NULL,0.6,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('3cd85229-45ee-41d9-a667-5856d82fdccf',2,'48b78980-f54d-4e0d-aa75-f50351a3d053',20,0.1,1.0,1.0,0.7,NULL,NULL,0.7,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('3cd85229-45ee-41d9-a667-5856d82fdccf',3,'48b78980-f54d-4e0d-aa75-f50351a3d053',30,0.1,1.0,1.0,0.8,NULL,NULL,0.8,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('3cd85229-45ee-41d9-a667-5856d82fdccf',4,'48b78980-f54d-4e0d-aa75-f50351a3d053',40,0.1,1.0,1.0,0.9,NULL,NULL,0.9,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('92524bc7-8c84-4f64-aae1-33e2fb921a47',1,'48b78980-f54d-4e0d-aa75-f50351a3d053',10,0.1,1.0,1.0,0.25,NULL,NULL,0.25,1,0.5);
INSERT INTO "lrsearch_epochs" VALUES('92524bc7-8c84-4f64-aae1-33e2fb921a47',2,'48b78980-f54d-4e0d-aa75-f50351a3d053',20,0.1,1.0,1.0,0.375,NULL,NULL,0.375,1,0.5);
CREATE TABLE lrsearch_leases (
	slot_id VARCHAR(36) NOT NULL,
	token VARCHAR(36) NOT NULL,
	host VARCHAR(200) NOT NULL,
	pid INTEGER NOT NULL,
	process_started FLOAT NOT NULL,
	epoch INTEGER NOT NULL,
	PRIMARY KEY (slot_id)
);
INSERT INTO "lrsearch_leases" VALUES('92524bc7-8c84-4f64-aae1-33e2fb921a47','067d5fef-2a94-4a89-b7ff-9e1ceacbd7fc','a-host',19448,1795325797.53,2);
CREATE TABLE lrsearch_schema (
	id INTEGER NOT NULL,
	version INTEGER NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_schema" VALUES(1,1);
CREATE TABLE lrsearch_slots (
	id VARCHAR(36) NOT NULL,
	study_id VARCHAR(36) NOT NULL,
	position INTEGER NOT NULL,
	state VARCHAR(16) NOT NULL,
	number INTEGER,
	origin VARCHAR(16) NOT NULL,
	attempts INTEGER NOT NULL,
	worker VARCHAR(200) NOT NULL,
	device VARCHAR(200) NOT NULL,
	versions VARCHAR(200) NOT NULL,
	started_at DATETIME,
	ended_at DATETIME,
	outcome VARCHAR(16),
	reason VARCHAR(32),
	value FLOAT,
	epoch INTEGER,
	step INTEGER,
	lr FLOAT,
	message TEXT,
	test_loss FLOAT,
	test_accuracy FLOAT,
	PRIMARY KEY (id),
	UNIQUE (study_id, position)
);
INSERT INTO "lrsearch_slots" VALUES('6c4592ed-e261-4345-94d8-d187ec71a6b4','e960591d-5354-4e21-bc3a-f28a8ab578bf',0,'ended',0,'sampler',1,'a-host:19448','fake device','fake 1.0','2026-11-22 05:36:38.923000','2026-11-22 05:36:38.927000','complete','finished',8.84282136105320137886e-01,4,NULL,NULL,'complete 0.8843',NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('99aa0e53-4335-4283-aa46-00ea6a49ea10','e960591d-5354-4e21-bc3a-f28a8ab578bf',1,'ended',1,'sampler',1,'a-host:19448','fake device','fake 1.0','2026-11-22 05:36:38.937000','2026-11-22 05:36:38.940000','complete','finished',7.68398146579401641886e-01,4,NULL,NULL,'complete 0.7684',0.25,0.9375);
INSERT INTO "lrsearch_slots" VALUES('0622ad70-fa7e-4f77-882f-c6aba00bdead','e960591d-5354-4e21-bc3a-f28a8ab578bf',2,'ended',2,'sampler',1,'a-host:19448','fake device','fake 1.0','2026-11-22 05:36:38.948000','2026-11-22 05:36:38.950000','complete','finished',6.93377092366921576882e-01,4,NULL,NULL,'complete 0.6934',NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('3cd85229-45ee-41d9-a667-5856d82fdccf','48b78980-f54d-4e0d-aa75-f50351a3d053',0,'ended',0,'sampler',1,'a-host:19448','fake device','fake 1.0','2026-11-22 05:36:38.960000','2026-11-22 05:36:38.963000','complete','finished',0.9,4,NULL,NULL,'complete 0.9',NULL,NULL);
INSERT INTO "lrsearch_slots" VALUES('92524bc7-8c84-4f64-aae1-33e2fb921a47','48b78980-f54d-4e0d-aa75-f50351a3d053',1,'running',1,'sampler',1,'a-host:19448','fake device','fake 1.0','2026-11-22 05:36:38.968000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE lrsearch_studies (
	id VARCHAR(36) NOT NULL,
	name VARCHAR(100) NOT NULL,
	budget_trials INTEGER,
	budget_hours FLOAT,
	max_failures INTEGER NOT NULL,
	revision INTEGER NOT NULL,
	created_at DATETIME NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "lrsearch_studies" VALUES('e960591d-5354-4e21-bc3a-f28a8ab578bf','done',3,NULL,5,4,'2026-11-22 05:36:38.900000');
INSERT INTO "lrsearch_studies" VALUES('48b78980-f54d-4e0d-aa75-f50351a3d053','half',3,NULL,5,2,'2026-11-22 05:36:38.953000');
CREATE TABLE studies (
	study_id INTEGER NOT NULL,
	study_name VARCHAR(512) NOT NULL,
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'done');
INSERT INTO "studies" VALUES(2,'half');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL,
	direction VARCHAR(8) NOT NULL,
	study_id INTEGER NOT NULL,
	objective INTEGER NOT NULL,
	PRIMARY KEY (study_direction_id),
	UNIQUE (study_id, objective),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MAXIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL,
	study_id INTEGER,
	"key" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (study_system_attribute_id),
	UNIQUE (study_id, "key"),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["validation accuracy"]');
INSERT INTO "study_system_attributes" VALUES(2,2,'study:metric_names','["validation accuracy"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL,
	study_id INTEGER,
	"key" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (study_user_attribute_id),
	UNIQUE (study_id, "key"),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'lrsearch:spec','"{\"budget\": {\"max_failures\": 5, \"trials\": 3}, \"dataset\": {\"name\": \"digits\", \"scaling\": \"standard\", \"split_seed\": 0, \"validation_fraction\": 0.2}, \"epochs\": 4, \"model\": {\"name\": \"mlp\"}, \"name\": \"done\", \"objective\": {\"metric\": \"accuracy\"}, \"pruner\": {\"name\": \"none\"}, \"sampler\": {\"n_startup_trials\": 10, \"name\": \"random\", \"portfolio\": false}, \"seed\": 0, \"space\": {\"batch_size\": [32, 64, 128], \"final_fraction\": {\"high\": 0.1, \"log\": true, \"low\": 0.001}, \"optimizer\": {\"adamw\": {\"beta1\": 0.9, \"beta2\": 0.999, \"eps\": 1e-08, \"peak_lr\": {\"high\": 0.1, \"log\": true, \"low\": 1e-05}, \"weight_decay\": 0.01}, \"sgd\": {\"dampening\": 0.0, \"momentum\": 0.9, \"nesterov\": false, \"peak_lr\": {\"high\": 3.0, \"log\": true, \"low\": 0.001}, \"weight_decay\": 0.0005}}, \"schedule\": {\"constant\": {}, \"cosine\": {}, \"linear\": {}, \"one_cycle\": {\"initial_fraction\": 0.04, \"rise_fraction\": {\"high\": 0.45, \"low\": 0.1}}, \"step\": {\"drops\": {\"high\": 4, \"low\": 1}}, \"wsd\": {\"decay_fraction\": {\"high\": 0.5, \"low\": 0.1}}}, \"warmup_fraction\": {\"high\": 0.2, \"low\": 0.0}}, \"training\": {\"averaging\": \"auto\", \"divergence_watch\": true, \"drop_last\": false}}"');
INSERT INTO "study_user_attributes" VALUES(2,1,'lrsearch:id','"e960591d-5354-4e21-bc3a-f28a8ab578bf"');
INSERT INTO "study_user_attributes" VALUES(3,2,'lrsearch:spec','"{\"budget\": {\"max_failures\": 5, \"trials\": 3}, \"dataset\": {\"name\": \"digits\", \"scaling\": \"standard\", \"split_seed\": 0, \"validation_fraction\": 0.2}, \"epochs\": 4, \"model\": {\"name\": \"mlp\"}, \"name\": \"half\", \"objective\": {\"metric\": \"accuracy\"}, \"pruner\": {\"name\": \"none\"}, \"sampler\": {\"n_startup_trials\": 10, \"name\": \"random\", \"portfolio\": false}, \"seed\": 0, \"space\": {\"batch_size\": [32, 64, 128], \"final_fraction\": {\"high\": 0.1, \"log\": true, \"low\": 0.001}, \"optimizer\": {\"adamw\": {\"beta1\": 0.9, \"beta2\": 0.999, \"eps\": 1e-08, \"peak_lr\": {\"high\": 0.1, \"log\": true, \"low\": 1e-05}, \"weight_decay\": 0.01}, \"sgd\": {\"dampening\": 0.0, \"momentum\": 0.9, \"nesterov\": false, \"peak_lr\": {\"high\": 3.0, \"log\": true, \"low\": 0.001}, \"weight_decay\": 0.0005}}, \"schedule\": {\"constant\": {}, \"cosine\": {}, \"linear\": {}, \"one_cycle\": {\"initial_fraction\": 0.04, \"rise_fraction\": {\"high\": 0.45, \"low\": 0.1}}, \"step\": {\"drops\": {\"high\": 4, \"low\": 1}}, \"wsd\": {\"decay_fraction\": {\"high\": 0.5, \"low\": 0.1}}}, \"warmup_fraction\": {\"high\": 0.2, \"low\": 0.0}}, \"training\": {\"averaging\": \"auto\", \"divergence_watch\": true, \"drop_last\": false}}"');
INSERT INTO "study_user_attributes" VALUES(4,2,'lrsearch:id','"48b78980-f54d-4e0d-aa75-f50351a3d053"');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	heartbeat DATETIME NOT NULL,
	PRIMARY KEY (trial_heartbeat_id),
	UNIQUE (trial_id),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	step INTEGER NOT NULL,
	intermediate_value FLOAT,
	intermediate_value_type VARCHAR(7) NOT NULL,
	PRIMARY KEY (trial_intermediate_value_id),
	UNIQUE (trial_id, step),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,4.716171392561707143e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,0.707425708884256,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,1,3,8.25329993698298736148e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,1,4,8.84282136105320137886e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,2,1,4.09812344842347520135e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,2,2,6.14718517263521224691e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,2,3,7.17171603474108132481e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,2,4,7.68398146579401641886e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,3,1,3.69801115929024815098e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,3,2,5.54701673893537194892e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,3,3,6.47151952875793412545e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(12,3,4,6.93377092366921576882e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(13,4,1,0.6,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(14,4,2,0.7,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(15,4,3,0.8,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(16,4,4,0.9,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(17,5,1,0.25,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(18,5,2,0.375,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL,
	trial_id INTEGER,
	param_name VARCHAR(512),
	param_value FLOAT,
	distribution_json TEXT,
	PRIMARY KEY (param_id),
	UNIQUE (trial_id, param_name),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(2,1,'schedule',5.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(3,1,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(4,1,'warmup_fraction',5.96371796729437339545e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(5,1,'final_fraction',5.41762776375810228141e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(6,1,'peak_lr_adamw',9.13410480135964653047e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(7,1,'decay_fraction_wsd',1.53050066535523193733e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.5, "log": false}}');
INSERT INTO "trial_params" VALUES(8,2,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(9,2,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(10,2,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(11,2,'warmup_fraction',4.20482199725063857109e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(12,2,'peak_lr_sgd',2.45214062566650098373e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(13,3,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(14,3,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(15,3,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(16,3,'warmup_fraction',1.06767774868945689026e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(17,3,'peak_lr_sgd',3.00116281103350659997e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
INSERT INTO "trial_params" VALUES(18,4,'optimizer',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(19,4,'schedule',5.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(20,4,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(21,4,'warmup_fraction',5.96371796729437339545e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(22,4,'final_fraction',5.41762776375810228141e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(23,4,'peak_lr_adamw',9.13410480135964653047e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.1, "log": true}}');
INSERT INTO "trial_params" VALUES(24,4,'decay_fraction_wsd',1.53050066535523193733e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 0.5, "log": false}}');
INSERT INTO "trial_params" VALUES(25,5,'optimizer',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["sgd", "adamw"]}}');
INSERT INTO "trial_params" VALUES(26,5,'schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "step", "linear", "cosine", "one_cycle", "wsd"]}}');
INSERT INTO "trial_params" VALUES(27,5,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(28,5,'warmup_fraction',4.20482199725063857109e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.2, "log": false}}');
INSERT INTO "trial_params" VALUES(29,5,'peak_lr_sgd',2.45214062566650098373e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.001, "high": 3.0, "log": true}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL,
	trial_id INTEGER,
	"key" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (trial_system_attribute_id),
	UNIQUE (trial_id, "key"),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL,
	trial_id INTEGER,
	"key" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (trial_user_attribute_id),
	UNIQUE (trial_id, "key"),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'lrsearch:slot','"6c4592ed-e261-4345-94d8-d187ec71a6b4"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'lrsearch:slot','"99aa0e53-4335-4283-aa46-00ea6a49ea10"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'lrsearch:slot','"0622ad70-fa7e-4f77-882f-c6aba00bdead"');
INSERT INTO "trial_user_attributes" VALUES(6,3,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(7,4,'lrsearch:slot','"3cd85229-45ee-41d9-a667-5856d82fdccf"');
INSERT INTO "trial_user_attributes" VALUES(8,4,'lrsearch:outcome','"complete"');
INSERT INTO "trial_user_attributes" VALUES(9,5,'lrsearch:slot','"92524bc7-8c84-4f64-aae1-33e2fb921a47"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	objective INTEGER NOT NULL,
	value FLOAT,
	value_type VARCHAR(7) NOT NULL,
	PRIMARY KEY (trial_value_id),
	UNIQUE (trial_id, objective),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,8.84282136105320137886e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,7.68398146579401641886e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,6.93377092366921576882e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,0.9,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL,
	number INTEGER,
	study_id INTEGER,
	state VARCHAR(8) NOT NULL,
	datetime_start DATETIME,
	datetime_complete DATETIME,
	PRIMARY KEY (trial_id),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-22 05:36:38.921000','2026-11-22 05:36:38.928000');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-22 05:36:38.937000','2026-11-22 05:36:38.940000');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-22 05:36:38.947000','2026-11-22 05:36:38.950000');
INSERT INTO "trials" VALUES(4,0,2,'COMPLETE','2026-11-22 05:36:38.960000','2026-11-22 05:36:38.963000');
INSERT INTO "trials" VALUES(5,1,2,'RUNNING','2026-11-22 05:36:38.968000',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL,
	schema_version INTEGER,
	library_version VARCHAR(256),
	PRIMARY KEY (version_info_id),
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX lrsearch_epochs_of_rung ON lrsearch_epochs (study_id, epoch);
COMMIT;
